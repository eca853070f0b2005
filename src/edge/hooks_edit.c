#include "edge/hooks_edit.h"

#include "base/mem.h"
#include "edge/permissions_edit.h"
#include "json/json.h"

#include <stdio.h>

/* The value that is read next, as it stands there. */
static bool take_value(struct json_reader *r, struct ht_slice *out) {
    (void)json_peek(r); /* it is behind white space now */
    const char *from = (const char *)r->p;
    if (json_skip(r) < 0)
        return false;
    *out = ht_slice_of(from, (size_t)((const char *)r->p - from));
    return true;
}

/* A member of an object; .p is NULL when it is not there. Unlike edge_permissions_get() it tells that from no memory:
 * hooks that are not seen would be lost by a change. */
static int member_of(struct json_reader *r, struct ht_slice object, const char *name, struct ht_slice *out) {
    struct ht_slice key, value;
    int more = 0;
    *out = ht_slice_of(NULL, 0);
    json_begin(r, object.p, object.n, NULL);
    if (json_object_begin(r) < 0)
        return HT_EINVAL;
    while ((more = json_object_next(r, &key)) > 0) {
        bool it = ht_slice_is(key, name);
        if (!take_value(r, &value))
            return HT_EINVAL;
        if (it)
            *out = value;
    }
    return more < 0 || json_end(r) < 0 ? HT_EINVAL : HT_OK;
}

/* The text of an id has no escapes, or is none. */
static int read_id(struct json_reader *r, struct ht_slice text, char out[HOOKS_ID_MAX + 1]) {
    struct ht_slice id;
    out[0] = '\0';
    if (member_of(r, text, "id", &id) < 0)
        return HT_EINVAL;
    bool good = id.n > 2 && id.n - 2 <= HOOKS_ID_MAX && id.p[0] == '"';
    for (size_t i = 1; good && i < id.n - 1; i++)
        good = ht_is_digit(id.p[i]) || (id.p[i] >= 'a' && id.p[i] <= 'z') || id.p[i] == '-' || id.p[i] == '_';
    if (good)
        snprintf(out, HOOKS_ID_MAX + 1, "%.*s", (int)id.n - 2, id.p + 1);
    return good ? HT_OK : HT_EINVAL;
}

static int read_rows(struct json_reader *r, struct json_reader *inner, struct ht_slice list,
                     struct edge_hook_rows *rows) {
    int more = 0;
    json_begin(r, list.p, list.n, NULL);
    if (json_array_begin(r) < 0)
        return HT_EINVAL;
    while ((more = json_array_next(r)) > 0) {
        struct edge_hook_row *row = &rows->all[rows->n];
        if (rows->n == HOOKS_SERVICE_MAX || !take_value(r, &row->text) || read_id(inner, row->text, row->id) < 0)
            return HT_EINVAL;
        rows->n++;
    }
    return more < 0 ? HT_EINVAL : HT_OK;
}

int edge_hook_rows_read(struct ht_slice doc, const char *service, struct edge_hook_rows *rows) {
    struct ht_slice list = {NULL, 0};
    struct json_reader *readers = doc.p ? ht_calloc(2, sizeof *readers) : NULL; /* they are large */
    rows->n = 0;
    if (!readers)
        return doc.p ? HT_ENOMEM : HT_OK;
    int rc = member_of(&readers[0], doc, service, &list);
    if (rc == HT_OK && list.p)
        rc = read_rows(&readers[0], &readers[1], list, rows);
    ht_free(readers);
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
