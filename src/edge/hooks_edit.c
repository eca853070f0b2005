#include "edge/hooks_edit.h"

#include "base/mem.h"
#include "edge/permissions_edit.h"
#include "json/json.h"

#include <stdio.h>

/* The text of an id has no escapes, or is none. */
static bool read_id(struct ht_slice text, char out[HOOKS_ID_MAX + 1]) {
    static const char *const path[] = {"id"};
    struct ht_slice id = edge_permissions_get(text, path, 1);
    bool good = id.n > 2 && id.n - 2 <= HOOKS_ID_MAX && id.p[0] == '"';
    out[0] = '\0';
    for (size_t i = 1; good && i < id.n - 1; i++)
        good = ht_is_digit(id.p[i]) || (id.p[i] >= 'a' && id.p[i] <= 'z') || id.p[i] == '-' || id.p[i] == '_';
    if (good)
        snprintf(out, HOOKS_ID_MAX + 1, "%.*s", (int)id.n - 2, id.p + 1);
    return good;
}

int edge_hook_rows_read(struct ht_slice doc, const char *service, struct edge_hook_rows *rows) {
    struct ht_slice list = doc.p ? edge_permissions_get(doc, &service, 1) : doc;
    struct json_reader *r = ht_calloc(1, sizeof *r); /* it is large */
    int more = 0, rc = r ? HT_OK : HT_ENOMEM;
    rows->n = 0;
    if (rc == HT_OK && list.p) {
        json_begin(r, list.p, list.n, NULL);
        rc = json_array_begin(r) < 0 ? HT_EINVAL : HT_OK;
        while (rc == HT_OK && (more = json_array_next(r)) > 0) {
            (void)json_peek(r); /* it is behind white space now */
            const char *from = (const char *)r->p;
            if (rows->n == HOOKS_SERVICE_MAX || json_skip(r) < 0)
                rc = HT_EINVAL;
            else
                rows->all[rows->n].text = ht_slice_of(from, (size_t)((const char *)r->p - from));
            if (rc == HT_OK && !read_id(rows->all[rows->n].text, rows->all[rows->n].id))
                rc = HT_EINVAL;
            rows->n += rc == HT_OK;
        }
        rc = more < 0 ? HT_EINVAL : rc;
    }
    ht_free(r);
    return rc;
}

size_t edge_hook_rows_find(const struct edge_hook_rows *rows, const char *id) {
    size_t i = 0;
    while (i < rows->n && strcmp(rows->all[i].id, id) != 0)
        i++;
    return i;
}

void edge_hook_rows_insert(struct edge_hook_rows *rows, size_t at, const struct edge_hook_row *row) {
    const struct edge_hook_row copy = *row;
    at = ht_min(at, rows->n);
    memmove(&rows->all[at + 1], &rows->all[at], (rows->n - at) * sizeof *row);
    rows->all[at] = copy;
    rows->n++;
}

void edge_hook_rows_remove(struct edge_hook_rows *rows, size_t at) {
    rows->n--;
    memmove(&rows->all[at], &rows->all[at + 1], (rows->n - at) * sizeof rows->all[0]);
}

void edge_hook_rows_new_id(const struct edge_hook_rows *rows, char out[HOOKS_ID_MAX + 1]) {
    unsigned n = 1;
    do
        snprintf(out, HOOKS_ID_MAX + 1, "hook-%u", n++);
    while (edge_hook_rows_find(rows, out) < rows->n);
}

int edge_hook_rows_write(struct ht_slice doc, const char *service, const struct edge_hook_rows *rows,
                         struct ht_buf *out) {
    struct ht_buf list = {0};
    int rc = ht_buf_append_str(&list, "[");
    for (size_t i = 0; rc == HT_OK && i < rows->n; i++) {
        rc = i ? ht_buf_append_str(&list, ",") : HT_OK;
        if (rc == HT_OK)
            rc = ht_buf_append(&list, rows->all[i].text.p, rows->all[i].text.n);
    }
    if (rc == HT_OK)
        rc = ht_buf_append_str(&list, "]");
    if (rc == HT_OK)
        rc = edge_permissions_set(doc, &service, 1, rows->n ? ht_buf_slice(&list) : ht_slice_of(NULL, 0), out);
    ht_buf_free(&list);
    return rc;
}
