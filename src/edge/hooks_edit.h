/*
 * Documents of hooks as texts: the hooks of a service as rows, which are changed and put back. What comes of it is
 * looked at by edge_hooks_create().
 */
#ifndef HT_EDGE_HOOKS_EDIT_H
#define HT_EDGE_HOOKS_EDIT_H

#include "edge/hooks.h"

struct edge_hook_row {
    struct ht_slice text; /* a JSON object */
    char id[HOOKS_ID_MAX + 1];
};

/* The hooks of a service, in their order; there is room for one more. */
struct edge_hook_rows {
    struct edge_hook_row all[HOOKS_SERVICE_MAX + 1];
    size_t n;
};

/* `doc` .p NULL: there are none. HT_OK, or HT_EINVAL: it is no document of hooks, or HT_ENOMEM. Texts point into it. */
int edge_hook_rows_read(struct ht_slice doc, const char *service, struct edge_hook_rows *rows) HT_MUST_USE;
/* Where the id is; rows->n: nowhere. */
size_t edge_hook_rows_find(const struct edge_hook_rows *rows, const char *id);
/* Puts one in at a position; behind the last it goes to the end. There must be room. */
void edge_hook_rows_insert(struct edge_hook_rows *rows, size_t at, const struct edge_hook_row *row);
void edge_hook_rows_remove(struct edge_hook_rows *rows, size_t at);
/* An id of the form hook-N that none of them has. */
void edge_hook_rows_new_id(const struct edge_hook_rows *rows, char out[HOOKS_ID_MAX + 1]);
/* Appends the document with these as the hooks of the service, which goes with its last one. HT_EINVAL, HT_ENOMEM. */
int edge_hook_rows_write(struct ht_slice doc, const char *service, const struct edge_hook_rows *rows,
                         struct ht_buf *out) HT_MUST_USE;

#endif
