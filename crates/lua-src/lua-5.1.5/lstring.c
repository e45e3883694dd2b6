/*
** $Id: lstring.c,v 2.8.1.1 2007/12/27 13:02:25 roberto Exp $
** String table (keeps all strings handled by Lua)
** See Copyright Notice in lua.h
*/


#include <string.h>
#include <sys/random.h>

#define lstring_c
#define LUA_CORE

#include "lua.h"

#include "lmem.h"
#include "lobject.h"
#include "lstate.h"
#include "lstring.h"



/*
** The place of a string. By `hash' as long as that serves: it leaves out most
** bytes of long strings and is no secret, so that a script can make any number
** of strings that share one. No script sees where a string lies.
*/
#define place(tb,str,l,hash) \
	((tb)->key == 0 ? (hash) : secretplace((tb)->key, str, l))

/* a polynomial of seven bytes at a time, at a point that nobody knows */
static __attribute__((noinline))
unsigned int secretplace (unsigned long key, const char *str, size_t l) {
  const unsigned long prime = (1ul << 61) - 1;
  unsigned long sum = l;
  for (;;) {
    size_t n = l < 7 ? l : 7;
    unsigned long piece = 0;
    unsigned __int128 product;
    memcpy(&piece, str, n);
    product = (unsigned __int128)(sum + piece) * key;
    sum = (unsigned long)(product & prime) + (unsigned long)(product >> 61);
    sum = (sum & prime) + (sum >> 61);
    if ((l -= n) == 0) return (unsigned int)(sum ^ (sum >> 32));
    str += n;
  }
}


/* puts the strings where nobody can foresee */
static void spread (global_State *g) {
  stringtable *tb = &g->strt;
  GCObject *all = NULL;
  int i;
  if (g->gcstate == GCSsweepstring)
    return;  /* cannot move them during GC traverse */
  if (getrandom(&tb->key, sizeof(tb->key), 0) != sizeof(tb->key))
    tb->key = cast(unsigned long, cast(size_t, g));
  tb->key = (tb->key >> 4) | 1;
  for (i=0; i<tb->size; i++) {
    while (tb->hash[i]) {
      GCObject *p = tb->hash[i];
      tb->hash[i] = p->gch.next;
      p->gch.next = all;
      all = p;
    }
  }
  while (all) {
    GCObject *p = all;
    TString *ts = rawgco2ts(p);
    GCObject **to = &tb->hash[lmod(place(tb, getstr(ts), ts->tsv.len,
                                         ts->tsv.hash), tb->size)];
    all = p->gch.next;
    p->gch.next = *to;
    *to = p;
  }
}


void luaS_resize (lua_State *L, int newsize) {
  GCObject **newhash;
  stringtable *tb;
  int i;
  if (G(L)->gcstate == GCSsweepstring)
    return;  /* cannot resize during GC traverse */
  newhash = luaM_newvector(L, newsize, GCObject *);
  tb = &G(L)->strt;
  for (i=0; i<newsize; i++) newhash[i] = NULL;
  /* rehash */
  for (i=0; i<tb->size; i++) {
    GCObject *p = tb->hash[i];
    while (p) {  /* for each node in the list */
      GCObject *next = p->gch.next;  /* save next */
      TString *ts = rawgco2ts(p);
      unsigned int h = place(tb, getstr(ts), ts->tsv.len, ts->tsv.hash);
      int h1 = lmod(h, newsize);  /* new position */
      lua_assert(cast_int(h%newsize) == lmod(h, newsize));
      p->gch.next = newhash[h1];  /* chain it */
      newhash[h1] = p;
      p = next;
    }
  }
  luaM_freearray(L, tb->hash, tb->size, TString *);
  tb->size = newsize;
  tb->hash = newhash;
}


/*
** Counts a string that a run makes, whether or not an earlier one has left it:
** how long a string takes grows with how many there are, mostly because none of
** this is in the processor's caches any more. Few cost nothing.
*/
#define FEWSTRINGS	10000
#define STRINGCOST	96

static void countstring (global_State *g, TString *ts) {
  ts->tsv.run = g->work.run;
  if (++g->work.strings > FEWSTRINGS) lua_charge(STRINGCOST);
}


/* no string is any run's */
void luaS_forget (lua_State *L) {
  stringtable *tb = &G(L)->strt;
  int i;
  for (i=0; i<tb->size; i++) {
    GCObject *o;
    for (o = tb->hash[i]; o != NULL; o = o->gch.next)
      rawgco2ts(o)->tsv.run = 0;
  }
}


static TString *newlstr (lua_State *L, const char *str, size_t l,
                                       unsigned int h, unsigned int at) {
  TString *ts;
  stringtable *tb;
  if (l+1 > (MAX_SIZET - sizeof(TString))/sizeof(char))
    luaM_toobig(L);
  ts = cast(TString *, luaM_malloc(L, (l+1)*sizeof(char)+sizeof(TString)));
  ts->tsv.len = l;
  ts->tsv.hash = h;
  ts->tsv.marked = luaC_white(G(L));
  ts->tsv.tt = LUA_TSTRING;
  ts->tsv.reserved = 0;
  countstring(G(L), ts);
  memcpy(ts+1, str, l*sizeof(char));
  ((char *)(ts+1))[l] = '\0';  /* ending 0 */
  tb = &G(L)->strt;
  at = lmod(at, tb->size);
  ts->tsv.next = tb->hash[at];  /* chain new entry */
  tb->hash[at] = obj2gco(ts);
  tb->nuse++;
  if (tb->nuse > cast(lu_int32, tb->size) && tb->size <= MAX_INT/2)
    luaS_resize(L, tb->size*2);  /* too crowded */
  return ts;
}


TString *luaS_newlstr (lua_State *L, const char *str, size_t l) {
  GCObject *o;
  stringtable *tb = &G(L)->strt;
  int seen = 0;
  unsigned int at;
  unsigned int h = cast(unsigned int, l);  /* seed */
  size_t step = (l>>5)+1;  /* if string is too long, don't hash all its chars */
  size_t l1;
  for (l1=l; l1>=step; l1-=step)  /* compute hash */
    h = h ^ ((h<<5)+(h>>2)+cast(unsigned char, str[l1-1]));
  at = place(tb, str, l, h);
  for (o = tb->hash[lmod(at, tb->size)];
       o != NULL;
       o = o->gch.next) {
    TString *ts = rawgco2ts(o);
    if (ts->tsv.len == l && (memcmp(str, getstr(ts), l) == 0)) {
      /* string may be dead */
      if (isdead(G(L), o)) changewhite(o);
      if (ts->tsv.run != G(L)->work.run) countstring(G(L), ts);
      return ts;
    }
    seen++;
  }
  if (seen > CHAIN && tb->key == 0) {
    spread(G(L));
    at = place(tb, str, l, h);
  }
  return newlstr(L, str, l, h, at);  /* not found */
}


Udata *luaS_newudata (lua_State *L, size_t s, Table *e) {
  Udata *u;
  if (s > MAX_SIZET - sizeof(Udata))
    luaM_toobig(L);
  u = cast(Udata *, luaM_malloc(L, s + sizeof(Udata)));
  u->uv.marked = luaC_white(G(L));  /* is not finalized */
  u->uv.tt = LUA_TUSERDATA;
  u->uv.serial = luaE_serial(L);
  u->uv.len = s;
  u->uv.metatable = NULL;
  u->uv.env = e;
  /* chain it on udata list (after main thread) */
  u->uv.next = G(L)->mainthread->next;
  G(L)->mainthread->next = obj2gco(u);
  return u;
}

