/* Members of a request's body. */
#include "edge/api.h"

#include "json/json.h"

#include <stdio.h>

static struct api_member *find(struct api_member *members, size_t n, struct ht_slice key) {
    for (size_t i = 0; i < n; i++)
        if (ht_slice_is(key, members[i].name))
            return &members[i];
    return NULL;
}

static const char *wanted(const struct api_member *m) {
    static const char *const texts[] = {"a text", "a whole number", "true or false", "a JSON value"};
    return texts[m->type];
}

static bool read_member(struct json_reader *r, struct json_arena *arena, struct api_member *m) {
    enum json_type type = json_peek(r);
    const char *from = (const char *)r->p;
    m->set = true;
    switch (m->type) {
    case API_TEXT:
        return type == JSON_T_STRING && json_read_string(r, false, arena, &m->value) == 0;
    case API_NUMBER:
        return type == JSON_T_NUMBER && json_read_uint(r, &m->number) == 0;
    case API_BOOL:
        return type == JSON_T_BOOL && json_read_bool(r, &m->on) == 0;
    case API_JSON:
        if (json_skip(r) < 0)
            return false;
        m->value = ht_slice_of(from, (size_t)((const char *)r->p - from));
        return true;
    }
    return false;
}

static int bad(struct edge_api_response *res, const struct json_reader *r, const struct api_member *m) {
    if (m && (r->error.reason == JSON_OK || r->error.reason == JSON_SYNTAX))
        return edge_api_reply_error(res, 400, "%s must be %s", m->name, wanted(m));
    return edge_api_reply_error(res, 400, "the body is no JSON object: %s",
                                r->error.reason == JSON_OK ? "another value" : json_reason_text(r->error.reason));
}

static int unknown(struct edge_api_response *res, struct ht_slice key, const struct api_member *members, size_t n) {
    char names[160] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", members[i].name);
    return edge_api_reply_error(res, 400, "the body has the member \"%.*s\"; there %s %s", (int)ht_min(key.n, 40),
                                key.p, n > 1 ? "are" : "is", names);
}

bool edge_api_body(const struct edge_api_request *req, struct edge_api_response *res, struct api_member *members,
                   size_t n, char *space, size_t cap, int *rc) {
    struct json_reader r;
    struct json_arena arena = {.p = space, .cap = cap};
    struct ht_slice key;
    int more;
    json_begin(&r, req->body.p ? req->body.p : "", req->body.n, NULL);
    if (json_object_begin(&r) < 0) {
        *rc = bad(res, &r, NULL);
        return false;
    }
    while ((more = json_object_next(&r, &key)) > 0) {
        struct api_member *m = find(members, n, key);
        if (!m || !read_member(&r, &arena, m)) {
            *rc = m ? bad(res, &r, m) : unknown(res, key, members, n);
            return false;
        }
    }
    if (more < 0 || json_end(&r) < 0) {
        *rc = bad(res, &r, NULL);
        return false;
    }
    for (size_t i = 0; i < n; i++)
        if (members[i].required && !members[i].set) {
            *rc = edge_api_reply_error(res, 400, "the body needs %s, %s", members[i].name, wanted(&members[i]));
            return false;
        }
    return true;
}
