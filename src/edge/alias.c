/* One alias: what its members may be. The same for a document and for a body of the API. */
#include "edge/aliases.h"

#include "base/clock.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

const char *const edge_alias_parts[EDGE_ALIAS_PARTS] = {
    [EDGE_ALIAS_NAME_PART] = "alias",
    [EDGE_ALIAS_PROJECT] = "project_id",
    [EDGE_ALIAS_CONTAINER] = "container_id",
    [EDGE_ALIAS_PROGRAM] = "program",
    [EDGE_ALIAS_PORT] = "port",
    [EDGE_ALIAS_INDEX] = "index",
    [EDGE_ALIAS_TARGET_PATH] = "target_path",
    [EDGE_ALIAS_OVERRIDE] = "allow_path_override",
    [EDGE_ALIAS_EXACT] = "exact",
    [EDGE_ALIAS_EXPIRES] = "expires_at",
    [EDGE_ALIAS_ENABLED] = "enabled",
};

/* ---- names ---- */

/* What looks like a container's host is none: PROJECT-CONTAINER-SERVICE-NUMBER, and all else that begins so. */
static bool like_a_container(const char *name) {
    return strlen(name) > EDGE_ID && name[EDGE_ID] == '-' && edge_is_id(ht_slice_of(name, EDGE_ID));
}

static bool is_reserved(const char *name) {
    for (size_t i = 0; i < HAPROXY_RESERVED_ALIASES; i++)
        if (strcmp(name, haproxy_reserved_aliases[i]) == 0)
            return true;
    return false;
}

static int check_name(const char *name, struct ht_errmsg *err) {
    size_t n = strlen(name);
    if (n == 0 || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] || name[0] == '-' || name[n - 1] == '-')
        return ht_fail(err, HT_EINVAL,
                       "alias: a name is 1 to %d of a-z, 0-9 and - inside, such as my-app: one label, in lower case",
                       EDGE_ALIAS_NAME - 1);
    if (n > 3 && name[2] == '-' && name[3] == '-')
        return ht_fail(err, HT_EINVAL,
                       "alias: the third and fourth character are not both -: xn-- and the like stand for letters of "
                       "other alphabets, which may look like another name");
    if (edge_is_id(ht_slice_str(name)) || like_a_container(name))
        return ht_fail(err, HT_EINVAL,
                       "alias: a name is no id, and does not begin with one, as a container's host does");
    if (is_reserved(name))
        return ht_fail(err, HT_EINVAL, "alias: the name %s is reserved", name);
    return HT_OK;
}

/* ---- target paths ---- */

/* A byte of a path as it stands in a request. Neither a list of HAProxy's fields nor a line of its commands may end. */
static bool is_path_byte(char c) {
    return ht_is_digit(c) || (ht_lower(c) >= 'a' && ht_lower(c) <= 'z') || (c && strchr("-._~/!$&()*+,=:@", c));
}

/* Segments of dots, and separators that hide behind %. */
static bool climbs(const char *path) {
    for (const char *p = path; *p; p++) {
        size_t dots = *p == '/' ? strspn(p + 1, ".") : 0;
        if (dots >= 2 || (dots == 1 && (p[2] == '/' || !p[2])))
            return true;
    }
    return strstr(path, "//") != NULL;
}

static int check_target(const char *path, struct ht_errmsg *err) {
    if (path[0] != '/')
        return ht_fail(err, HT_EINVAL, "target_path: a path begins with /");
    for (const char *p = path; *p; p++) {
        int high = *p == '%' ? ht_hex_digit(p[1]) : 0, low = *p == '%' && high >= 0 ? ht_hex_digit(p[2]) : 0;
        int byte = high * 16 + low;
        if ((*p != '%' && !is_path_byte(*p)) || high < 0 || low < 0)
            return ht_fail(err, HT_EINVAL,
                           "target_path: letters, digits and -._~/!$&()*+,=:@ may stand there; others as %%XX, without "
                           "a query");
        if (*p == '%' && (byte < 0x20 || byte == 0x7f || strchr("%./\\", byte)))
            return ht_fail(err, HT_EINVAL, "target_path: %.3s may not stand there: write it as it is, or leave it out",
                           p);
    }
    if (climbs(path))
        return ht_fail(err, HT_EINVAL, "target_path: there is no //, and no segment is . or begins with ..");
    return HT_OK;
}

/* ---- times ---- */

#define LAST_SECOND UINT64_C(253402300800) /* of the year 9999, since 1970 */

static bool digits(const char **p, int n, int *out) {
    *out = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (!ht_is_digit(**p))
            return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

static bool skip(const char **p, char c) {
    bool there = **p == c;
    *p += there;
    return there;
}

/* Behind the seconds: a fraction, which is left out, and where on earth. */
static bool read_zone(const char *p, int *seconds) {
    int hours = 0, minutes = 0, any;
    if (skip(&p, '.')) {
        if (!digits(&p, 1, &any))
            return false;
        p += strspn(p, "0123456789");
    }
    int sign = *p == '-' ? -1 : 1;
    if ((*p == '+' || *p == '-') && (p++, digits(&p, 2, &hours)) && skip(&p, ':') && digits(&p, 2, &minutes)) {
        *seconds = sign * (hours * 3600 + minutes * 60);
        return !*p && hours < 24 && minutes < 60;
    }
    *seconds = 0;
    return strcmp(p, "Z") == 0;
}

/* RFC 3339; the last two digits of a day that a month does not have make another month. */
static bool read_time(const char *p, int64_t *out) {
    struct tm tm = {.tm_isdst = 0};
    int zone;
    bool ok = digits(&p, 4, &tm.tm_year) && skip(&p, '-') && digits(&p, 2, &tm.tm_mon) && skip(&p, '-') &&
              digits(&p, 2, &tm.tm_mday) && skip(&p, 'T') && digits(&p, 2, &tm.tm_hour) && skip(&p, ':') &&
              digits(&p, 2, &tm.tm_min) && skip(&p, ':') && digits(&p, 2, &tm.tm_sec) && read_zone(p, &zone);
    if (!ok || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59 || tm.tm_year < 1971)
        return false;
    int month = tm.tm_mon -= 1, day = tm.tm_mday;
    tm.tm_year -= 1900;
    *out = (int64_t)timegm(&tm) - zone;
    return tm.tm_mon == month && tm.tm_mday == day;
}

char *edge_alias_time(const struct edge_alias *a, char out[EDGE_ALIAS_TIME]) {
    struct tm tm;
    time_t at = (time_t)a->expires;
    if (!gmtime_r(&at, &tm) || strftime(out, EDGE_ALIAS_TIME, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = '\0';
    return out;
}

bool edge_alias_expired(const struct edge_alias *a) {
    return a->expires && ((int64_t)ht_now_ms() + ht_wall_offset_ms()) / 1000 >= a->expires;
}

/* ---- members ---- */

static int wrong(struct ht_errmsg *err, enum edge_alias_part part, const char *wanted) {
    return ht_fail(err, HT_EINVAL, "%s must be %s", edge_alias_parts[part], wanted);
}

static int set_text(enum edge_alias_part part, struct json_reader *r, char *out, size_t cap, struct ht_errmsg *err) {
    struct ht_slice text;
    char space[EDGE_ALIAS_TARGET * 2];
    struct json_arena arena = {.p = space, .cap = sizeof space};
    out[0] = '\0';
    if (json_peek(r) == JSON_T_NULL)
        return json_skip(r) == 0 ? HT_OK : wrong(err, part, "a text");
    if (json_peek(r) != JSON_T_STRING || json_read_string(r, false, &arena, &text) != 0)
        return wrong(err, part, "a text, and not too long");
    if (text.n == 0 || text.n >= cap || memchr(text.p, '\0', text.n))
        return ht_fail(err, HT_EINVAL, "%s must have 1 to %zu bytes", edge_alias_parts[part], cap - 1);
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return HT_OK;
}

static int set_number(enum edge_alias_part part, struct json_reader *r, unsigned *out, struct ht_errmsg *err) {
    uint64_t n = 0;
    *out = 0;
    if (json_peek(r) == JSON_T_NULL)
        return json_skip(r) == 0 ? HT_OK : wrong(err, part, "a number");
    if (json_peek(r) != JSON_T_NUMBER || json_read_uint(r, &n) != 0 || n < 1 || n > UINT16_MAX)
        return wrong(err, part, "a whole number from 1 to 65535");
    *out = (unsigned)n;
    return HT_OK;
}

static int set_bool(enum edge_alias_part part, struct json_reader *r, bool *out, struct ht_errmsg *err) {
    return json_peek(r) == JSON_T_BOOL && json_read_bool(r, out) == 0 ? HT_OK : wrong(err, part, "true or false");
}

static int set_id(enum edge_alias_part part, struct json_reader *r, char out[EDGE_ID + 1], struct ht_errmsg *err) {
    int rc = set_text(part, r, out, EDGE_ID + 1, err);
    return rc < 0 || edge_is_id(ht_slice_str(out)) ? rc : wrong(err, part, "an id: 24 of 0-9 and a-f");
}

static int set_member(struct edge_alias *a, enum edge_alias_part part, struct json_reader *r, struct ht_errmsg *err) {
    char text[EDGE_ALIAS_TIME];
    bool on = true;
    int rc;
    switch (part) {
    case EDGE_ALIAS_NAME_PART:
        rc = set_text(part, r, a->name, sizeof a->name, err);
        return rc < 0 ? rc : check_name(a->name, err);
    case EDGE_ALIAS_PROJECT:
        return set_id(part, r, a->project, err);
    case EDGE_ALIAS_CONTAINER:
        return set_id(part, r, a->container, err);
    case EDGE_ALIAS_PROGRAM:
        rc = set_text(part, r, a->program, sizeof a->program, err);
        return rc < 0 || edge_is_service(ht_slice_str(a->program))
                   ? rc
                   : wrong(err, part, "a service such as terminal or http: a-z and single hyphens between them");
    case EDGE_ALIAS_PORT:
        return set_number(part, r, &a->port, err);
    case EDGE_ALIAS_INDEX:
        return set_number(part, r, &a->index, err);
    case EDGE_ALIAS_TARGET_PATH:
        rc = set_text(part, r, a->target, sizeof a->target, err);
        return rc < 0 || !a->target[0] ? rc : check_target(a->target, err);
    case EDGE_ALIAS_OVERRIDE:
        return set_bool(part, r, &a->override, err);
    case EDGE_ALIAS_EXACT:
        return set_bool(part, r, &a->exact, err);
    case EDGE_ALIAS_EXPIRES:
        a->expires = 0;
        rc = set_text(part, r, text, sizeof text, err);
        return rc < 0 || !text[0] || read_time(text, &a->expires)
                   ? rc
                   : wrong(err, part, "a time such as 2026-12-24T18:00:00Z, or null");
    case EDGE_ALIAS_ENABLED:
        rc = set_bool(part, r, &on, err);
        a->disabled = !on;
        return rc;
    case EDGE_ALIAS_PARTS:
        break;
    }
    return wrong(err, EDGE_ALIAS_NAME_PART, "there");
}

int edge_alias_set(struct edge_alias *a, enum edge_alias_part part, struct ht_slice json, struct ht_errmsg *err) {
    struct json_reader r;
    json_begin(&r, json.p ? json.p : "", json.n, NULL);
    int rc = set_member(a, part, &r, err);
    return rc == HT_OK && json_end(&r) < 0 ? wrong(err, part, "a JSON value") : rc;
}

/* ---- all of them ---- */

static bool has_port(const struct edge_alias *a) { return !edge_has_port(ht_slice_str(a->program)); }

static int check_number(struct edge_alias *a, struct ht_errmsg *err) {
    if (!has_port(a) && a->port)
        return ht_fail(err, HT_EINVAL, "port is for http and https: %s has the port of its service", a->program);
    if (!has_port(a)) {
        a->index = a->index ? a->index : 1;
        return HT_OK;
    }
    if (a->port && a->index && a->port != a->index)
        return ht_fail(err, HT_EINVAL, "port and index of %s are the same number; give port alone", a->program);
    a->port = a->port ? a->port : a->index;
    a->index = 0;
    return a->port ? HT_OK : ht_fail(err, HT_EINVAL, "port is needed with %s", a->program);
}

int edge_alias_check(struct edge_alias *a, struct ht_errmsg *err) {
    static const struct {
        enum edge_alias_part part;
        size_t at;
    } needed[] = {{EDGE_ALIAS_NAME_PART, offsetof(struct edge_alias, name)},
                  {EDGE_ALIAS_CONTAINER, offsetof(struct edge_alias, container)},
                  {EDGE_ALIAS_PROGRAM, offsetof(struct edge_alias, program)}};
    for (size_t i = 0; i < HT_ARRAY_LEN(needed); i++)
        if (!*((const char *)a + needed[i].at))
            return ht_fail(err, HT_EINVAL, "%s is needed", edge_alias_parts[needed[i].part]);
    size_t n = strlen(a->target);
    if (a->exact && a->override)
        return ht_fail(err, HT_EINVAL, "exact and allow_path_override exclude each other");
    if (a->exact && n == 0)
        return ht_fail(err, HT_EINVAL, "exact needs a target_path");
    if (n > 1 && !a->exact && a->target[n - 1] == '/')
        return ht_fail(err, HT_EINVAL,
                       "target_path: without exact the last byte is not /: the visitor's path begins so");
    return check_number(a, err);
}

bool edge_alias_released(const struct edge_doc *d, struct edge_released *out) {
    struct edge_alias it = {.port = 0};
    struct ht_slice at = edge_doc_part(d, EDGE_ALIAS_RELEASED);
    struct json_reader r;
    uint64_t n = 0;
    json_begin(&r, at.p ? at.p : "", at.n, NULL);
    bool good =
        at.p && json_read_uint(&r, &n) == 0 && n < LAST_SECOND &&
        edge_alias_set(&it, EDGE_ALIAS_NAME_PART, edge_doc_part(d, edge_alias_parts[EDGE_ALIAS_NAME_PART]), NULL) ==
            0 &&
        edge_alias_set(&it, EDGE_ALIAS_PROJECT, edge_doc_part(d, edge_alias_parts[EDGE_ALIAS_PROJECT]), NULL) == 0;
    if (good && out) {
        snprintf(out->name, sizeof out->name, "%s", it.name);
        snprintf(out->project, sizeof out->project, "%s", it.project);
        out->at = (int64_t)n;
    }
    return good;
}

unsigned edge_alias_number(const struct edge_alias *a) { return a->port ? a->port : a->index; }

static int put_text(struct ht_buf *out, const char *text) {
    return *text ? ht_buf_printf(out, "\"%s\"", text) : HT_OK; /* none of them has anything to escape */
}

static int put_number(struct ht_buf *out, unsigned n) { return n ? ht_buf_printf(out, "%u", n) : HT_OK; }

int edge_alias_put(const struct edge_alias *a, enum edge_alias_part part, struct ht_buf *out) {
    char text[EDGE_ALIAS_TIME];
    switch (part) {
    case EDGE_ALIAS_NAME_PART:
        return put_text(out, a->name);
    case EDGE_ALIAS_PROJECT:
        return put_text(out, a->project);
    case EDGE_ALIAS_CONTAINER:
        return put_text(out, a->container);
    case EDGE_ALIAS_PROGRAM:
        return put_text(out, a->program);
    case EDGE_ALIAS_PORT:
        return put_number(out, a->port);
    case EDGE_ALIAS_INDEX:
        return put_number(out, a->index);
    case EDGE_ALIAS_TARGET_PATH:
        return put_text(out, a->target);
    case EDGE_ALIAS_OVERRIDE:
        return a->override ? ht_buf_append_str(out, "true") : HT_OK;
    case EDGE_ALIAS_EXACT:
        return a->exact ? ht_buf_append_str(out, "true") : HT_OK;
    case EDGE_ALIAS_EXPIRES:
        return a->expires ? put_text(out, edge_alias_time(a, text)) : HT_OK;
    case EDGE_ALIAS_ENABLED:
        return a->disabled ? ht_buf_append_str(out, "false") : HT_OK;
    case EDGE_ALIAS_PARTS:
        break;
    }
    return HT_OK;
}

int edge_alias_read(struct edge_alias *a, const struct edge_doc *d, struct ht_errmsg *err) {
    *a = (struct edge_alias){.port = 0};
    for (int part = 0; part < EDGE_ALIAS_PARTS; part++) {
        struct ht_slice json = edge_doc_part(d, edge_alias_parts[part]);
        int rc = json.p ? edge_alias_set(a, part, json, err) : HT_OK;
        if (rc < 0)
            return rc;
    }
    if (!a->project[0])
        return ht_fail(err, HT_EINVAL, "project_id is needed");
    return edge_alias_check(a, err);
}
