/* Preloaded into a node: while the file named by FSYNC_FAILS exists, fdatasync and fsync fail as on a broken disk. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int broken(void) {
    const char *file = getenv("FSYNC_FAILS");
    return file && access(file, F_OK) == 0;
}

static int call(const char *name, int fd) {
    if (broken()) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fdatasync(int fd) { return call("fdatasync", fd); }

int fsync(int fd) { return call("fsync", fd); }
