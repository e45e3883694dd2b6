/* Preloaded into a node. Files in the directory that FAULTS names are switches:
 *
 *   fsync-fails   fsync and fdatasync fail as on a broken disk, and so do writes that are durable when they return
 *   fsync-delay   they take so many milliseconds longer
 *   disk-full     files cannot grow, and cannot be written
 *   clock         8 bytes, little endian: nanoseconds by which the wall clock is off
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

static volatile int64_t *clock_offset_ns;

static const char *switch_path(const char *name, char *path) {
    const char *directory = getenv("FAULTS");
    if (!directory || snprintf(path, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX) return NULL;
    return path;
}

static int is_on(const char *name) {
    char path[PATH_MAX];
    return switch_path(name, path) && access(path, F_OK) == 0;
}

static void wait_for_disk(void) {
    char path[PATH_MAX], text[32] = "";
    if (!switch_path("fsync-delay", path)) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (read(fd, text, sizeof text - 1) > 0) usleep((useconds_t)atoi(text) * 1000);
    close(fd);
}

static int sync_is_broken(void) {
    wait_for_disk();
    if (!is_on("fsync-fails")) return 0;
    errno = EIO;
    return 1;
}

static int sync_file(const char *name, int fd) { return sync_is_broken() ? -1 : REAL(int, name, int)(fd); }

int fdatasync(int fd) { return sync_file("fdatasync", fd); }

int fsync(int fd) { return sync_file("fsync", fd); }

/* Standard output and error go to files, too, and have room. */
static int has_no_room(int fd) {
    struct stat about;
    if (fd <= 2 || !is_on("disk-full") || fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int fd, const void *data, size_t size) {
    return has_no_room(fd) ? -1 : REAL(ssize_t, "write", int, const void *, size_t)(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    if ((fcntl(fd, F_GETFL) & O_DSYNC) && sync_is_broken()) return -1;
    return has_no_room(fd) ? -1 : REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

int ftruncate64(int fd, off64_t size) {
    return has_no_room(fd) ? -1 : REAL(int, "ftruncate64", int, off64_t)(fd, size);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

__attribute__((constructor)) static void map_clock(void) {
    char path[PATH_MAX];
    if (!switch_path("clock", path)) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *clock_offset_ns, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) clock_offset_ns = mapped;
    close(fd);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int failed = real(which, now);
    if (failed || which != CLOCK_REALTIME || !clock_offset_ns) return failed;
    int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + *clock_offset_ns;
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
    return 0;
}
