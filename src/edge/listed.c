/* A block for each request: it begins with "0x..: [date] id=NUMBER proto=..", and has indented lines behind that. */
#include "edge/listed.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

#define TLS "_tls" /* what names of backends end with (haproxy.cfg.j2) whose containers speak TLS themselves */

/* Cuts the next block off: it begins with "0x" at the start of a line. */
static bool next_block(struct ht_slice *text, struct ht_slice *out) {
    const char *end = text->n ? memmem(text->p + 1, text->n - 1, "\n0x", 3) : NULL;
    if (text->n == 0)
        return false;
    size_t n = end ? (size_t)(end + 1 - text->p) : text->n;
    *out = ht_slice_of(text->p, n);
    *text = ht_slice_of(text->p + n, text->n - n);
    return true;
}

/* The word behind `what`. */
static struct ht_slice word_behind(struct ht_slice text, const char *what) {
    const char *at = text.n ? memmem(text.p, text.n, what, strlen(what)) : NULL;
    if (!at)
        return ht_slice_of(NULL, 0);
    at += strlen(what);
    size_t n = 0, most = (size_t)(text.p + text.n - at);
    while (n < most && at[n] != ' ' && at[n] != '\n')
        n++;
    return ht_slice_of(at, n);
}

static struct ht_slice line_with(struct ht_slice block, const char *what) {
    const char *at = memmem(block.p, block.n, what, strlen(what));
    if (!at)
        return ht_slice_of(NULL, 0);
    size_t most = (size_t)(block.p + block.n - at - 1);
    const char *end = memchr(at + 1, '\n', most);
    return ht_slice_of(at + 1, end ? (size_t)(end - at - 1) : most);
}

/* " addr=ADDRESS:PORT", which a request has from when it has been sent on. */
static void read_server(struct ht_slice block, struct edge_listed *out) {
    struct ht_slice to = word_behind(line_with(block, "\n  server="), " addr=");
    const char *colon = to.n ? memrchr(to.p, ':', to.n) : NULL;
    if (!colon || (size_t)(colon - to.p) >= sizeof out->ip)
        return;
    snprintf(out->ip, sizeof out->ip, "%.*s", (int)(colon - to.p), to.p);
    for (const char *p = colon + 1; p < to.p + to.n && ht_is_digit(*p) && out->port <= UINT16_MAX; p++)
        out->port = out->port * 10 + (unsigned)(*p - '0');
    struct ht_slice backend = word_behind(block, "\n  backend=");
    size_t n = sizeof TLS - 1;
    out->tls = backend.n > n && memcmp(backend.p + backend.n - n, TLS, n) == 0;
}

/* " age=AGE)" in whole seconds, of which the first may have been short; "?" when HAProxy's clocks differ. */
static bool is_old(struct ht_slice block) {
    struct ht_slice age = word_behind(line_with(block, "\n  task="), " age=");
    return age.n && ht_is_digit(*age.p) && !ht_slice_is(age, "0s)") && !ht_slice_is(age, "1s)");
}

/* "0xHEX:", which becomes a part of commands. */
static bool is_name(struct ht_slice s) {
    bool good = s.n > 3 && memcmp(s.p, "0x", 2) == 0 && s.p[s.n - 1] == ':';
    for (size_t i = 2; good && i < s.n - 1; i++)
        good = ht_hex_digit(s.p[i]) >= 0;
    return good;
}

bool edge_listed_next(struct ht_slice *text, uint64_t process, struct edge_listed *out) {
    struct ht_slice block;
    while (text->n && text->p[0] == '\n')
        *text = ht_slice_of(text->p + 1, text->n - 1);
    while (next_block(text, &block)) {
        struct ht_slice name = word_behind(block, ""), number = word_behind(block, "] id=");
        if (!is_name(name) || name.n > sizeof out->name || number.n == 0 || !ht_is_digit(*number.p))
            continue;
        *out = (struct edge_listed){.process = process, .number = (uint32_t)strtoul(number.p, NULL, 10)};
        memcpy(out->name, name.p, name.n - 1);
        read_server(block, out);
        out->old = is_old(block);
        return true;
    }
    return false;
}

bool edge_listed_newer(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }

int edge_listed_add(struct edge_listed_set *set, const struct edge_listed *one) {
    if (set->n == set->cap) {
        size_t cap = set->cap ? set->cap * 2 : 16;
        struct edge_listed *more = ht_realloc(set->list, cap * sizeof *more);
        if (!more)
            return HT_ENOMEM;
        set->list = more;
        set->cap = cap;
    }
    set->list[set->n++] = *one;
    return HT_OK;
}

static int by_number(const void *a, const void *b) {
    const struct edge_listed *x = a, *y = b;
    if (x->process != y->process)
        return x->process < y->process ? -1 : 1;
    return x->number == y->number ? 0 : x->number < y->number ? -1 : 1;
}

void edge_listed_sort(struct edge_listed_set *set) {
    if (set->n)
        qsort(set->list, set->n, sizeof *set->list, by_number);
}

const struct edge_listed *edge_listed_find(const struct edge_listed_set *set, const struct edge_listed *key) {
    return set->n ? bsearch(key, set->list, set->n, sizeof *key, by_number) : NULL;
}

void edge_listed_free(struct edge_listed_set *set) {
    ht_free(set->list);
    *set = (struct edge_listed_set){.list = NULL};
}
