/*
** $Id: lmem.c,v 1.70.1.1 2007/12/27 13:02:25 roberto Exp $
** Interface to Memory Manager
** See Copyright Notice in lua.h
*/


#include <stddef.h>

#define lmem_c
#define LUA_CORE

#include "lua.h"

#include "ldebug.h"
#include "ldo.h"
#include "lmem.h"
#include "lobject.h"
#include "lstate.h"



/*
** About the realloc function:
** void * frealloc (void *ud, void *ptr, size_t osize, size_t nsize);
** (`osize' is the old size, `nsize' is the new size)
**
** Lua ensures that (ptr == NULL) iff (osize == 0).
**
** * frealloc(ud, NULL, 0, x) creates a new block of size `x'
**
** * frealloc(ud, p, x, 0) frees the block `p'
** (in this specific case, frealloc must return NULL).
** particularly, frealloc(ud, NULL, 0, 0) does nothing
** (which is equivalent to free(NULL) in ANSI C)
**
** frealloc returns NULL if it cannot create or reallocate the area
** (any reallocation to an equal or smaller size cannot fail!)
*/



#define MINSIZEARRAY	4


void *luaM_growaux_ (lua_State *L, void *block, int *size, size_t size_elems,
                     int limit, const char *errormsg) {
  void *newblock;
  int newsize;
  if (*size >= limit/2) {  /* cannot double it? */
    if (*size >= limit)  /* cannot grow even a little? */
      luaG_runerror(L, errormsg);
    newsize = limit;  /* still have at least one free place */
  }
  else {
    newsize = (*size)*2;
    if (newsize < MINSIZEARRAY)
      newsize = MINSIZEARRAY;  /* minimum size */
  }
  newblock = luaM_reallocv(L, block, *size, newsize, size_elems);
  *size = newsize;  /* update only when everything else is OK */
  return newblock;
}


void *luaM_toobig (lua_State *L) {
  luaG_runerror(L, "memory allocation error: block too big");
  return NULL;  /* to avoid warnings */
}



/*
** What a block of `n' bytes takes: small ones are as large as others of their
** kind, so that one can be had for another.
*/
#define taken(n) \
	((n) <= MAXKEPT ? ((n) + KEPTSTEP - 1) / KEPTSTEP * KEPTSTEP : (n))
#define issmall(n)	((n) - 1 < MAXKEPT)  /* and not 0 */
#define keptof(g,n)	(&(g)->kept[((n) - 1) / KEPTSTEP])

/* a block that is free, and where the next one of its kind is */
typedef struct Kept { struct Kept *next; } Kept;


/*
** generic allocation routine. Small blocks that are free are kept for the next
** of their kind: what frees and allocates behind `frealloc' takes ten times as
** long.
*/
void *luaM_realloc_ (lua_State *L, void *block, size_t osize, size_t nsize) {
  global_State *g = G(L);
  size_t from = taken(osize);
  size_t to = taken(nsize);
  lua_assert((osize == 0) == (block == NULL));
  if (osize == 0 && issmall(nsize) && *keptof(g, nsize) != NULL) {
    block = *keptof(g, nsize);
    *keptof(g, nsize) = ((Kept *)block)->next;
    g->keptbytes -= to;
  }
  else if (nsize == 0 && issmall(osize) && g->keptbytes < MOSTKEPT) {
    ((Kept *)block)->next = *keptof(g, osize);
    *keptof(g, osize) = block;
    g->keptbytes += from;
    block = NULL;
  }
  else if (from != to) {
    block = (*g->frealloc)(g->ud, block, from, to);
    if (block == NULL && nsize > 0)
      luaD_throw(L, LUA_ERRMEM);
  }
  lua_assert((nsize == 0) == (block == NULL));
  g->totalbytes = (g->totalbytes - osize) + nsize;
  return block;
}


/* lets go of all that is kept */
void luaM_release (lua_State *L) {
  global_State *g = G(L);
  size_t size;
  for (size = KEPTSTEP; size <= MAXKEPT; size += KEPTSTEP) {
    while (*keptof(g, size) != NULL) {
      Kept *block = *keptof(g, size);
      *keptof(g, size) = block->next;
      (*g->frealloc)(g->ud, block, size, 0);
    }
  }
  g->keptbytes = 0;
}
