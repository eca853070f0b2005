/*
 * Documents and bodies of aliases: any bytes are an alias, or it is said what is wrong. What is an alias makes a host
 * that nobody else has, a value that neither ends a field of a map nor a command to HAProxy, and a target path that
 * nothing leads out of; what is written of it is read as the same.
 *
 * Input: a JSON object with its members.
 */
#include "edge/aliases.h"
#include "fuzz.h"
#include "json/json.h"

/* Sets the members that there are. False: one is wrong. */
static bool read_object(struct ht_slice text, struct edge_alias *a) {
    struct json_reader r;
    struct ht_slice key;
    json_begin(&r, text.p, text.n, NULL);
    if (json_object_begin(&r) < 0)
        return false;
    while (json_object_next(&r, &key) > 0) {
        int part = 0;
        while (part < EDGE_ALIAS_PARTS && !ht_slice_is(key, edge_alias_parts[part]))
            part++;
        (void)json_peek(&r);
        const char *from = (const char *)r.p;
        if (json_skip(&r) < 0)
            return false;
        struct ht_slice value = ht_slice_of(from, (size_t)((const char *)r.p - from));
        struct ht_errmsg err = {""};
        if (part == EDGE_ALIAS_PARTS)
            continue;
        int rc = edge_alias_set(a, part, value, &err);
        FUZZ_CHECK(rc == HT_OK || (rc == HT_EINVAL && err.text[0]));
        if (rc < 0)
            return false;
    }
    return json_end(&r) == 0;
}

static void check_name(const char *name) {
    size_t n = strlen(name);
    FUZZ_CHECK(n > 0 && n < EDGE_ALIAS_NAME && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")]);
    FUZZ_CHECK(name[0] != '-' && name[n - 1] != '-' && (n < 4 || name[2] != '-' || name[3] != '-'));
    FUZZ_CHECK(n < EDGE_ID || !edge_is_id(ht_slice_of(name, EDGE_ID)) || (n > EDGE_ID && name[EDGE_ID] != '-'));
}

/* As a service may read it: decoded until nothing more is, with both kinds of slashes. */
static void check_target(const char *target) {
    char path[EDGE_ALIAS_TARGET];
    size_t n = 0, from = 0;
    for (const char *p = target; *p; p++) {
        bool coded = *p == '%';
        FUZZ_CHECK(*p > ' ' && *p < 0x7f && !strchr("|;\\\"'<>#?", *p));
        path[n++] = coded ? (char)(ht_hex_digit(p[1]) * 16 + ht_hex_digit(p[2])) : *p;
        p += coded ? 2 : 0;
    }
    FUZZ_CHECK(path[0] == '/' && !memchr(path, '%', n) && !memchr(path, '\\', n) && !memchr(path, '\0', n));
    for (size_t i = 1; i <= n; i++)
        if (i == n || path[i] == '/') {
            const char *segment = path + from + 1;
            size_t len = i - from - 1;
            FUZZ_CHECK(len > 0 || i == n);
            FUZZ_CHECK(!(len == 1 && segment[0] == '.') && !(len >= 2 && segment[0] == '.' && segment[1] == '.'));
            from = i;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct edge_alias a = {.port = 0}, b = {.port = 0};
    struct ht_errmsg err = {""};
    if (size > 20000)
        return 0;
    size_t live = ht_mem_live();
    char *text = fuzz_copy(data, size);
    bool good = read_object(ht_slice_of(text, size), &a);
    int rc = edge_alias_check(&a, &err);
    FUZZ_CHECK(rc == HT_OK || (rc == HT_EINVAL && err.text[0]));
    if (good && rc == HT_OK) {
        check_name(a.name);
        FUZZ_CHECK(edge_is_id(ht_slice_str(a.container)) && (!a.project[0] || edge_is_id(ht_slice_str(a.project))));
        FUZZ_CHECK(edge_is_service(ht_slice_str(a.program)));
        FUZZ_CHECK(edge_alias_number(&a) >= 1 && edge_alias_number(&a) <= UINT16_MAX);
        if (a.target[0])
            check_target(a.target);
        for (int part = 0; part < EDGE_ALIAS_PARTS; part++) {
            struct ht_buf out = {0};
            FUZZ_CHECK(edge_alias_put(&a, part, &out) == HT_OK);
            FUZZ_CHECK(ht_buf_size(&out) == 0 || edge_alias_set(&b, part, ht_buf_slice(&out), &err) == HT_OK);
            ht_buf_free(&out);
        }
        FUZZ_CHECK(edge_alias_check(&b, &err) == HT_OK);
        FUZZ_CHECK(strcmp(a.name, b.name) == 0 && strcmp(a.container, b.container) == 0 &&
                   strcmp(a.program, b.program) == 0 && strcmp(a.target, b.target) == 0 && a.expires == b.expires &&
                   edge_alias_number(&a) == edge_alias_number(&b) && a.exact == b.exact && a.override == b.override &&
                   a.disabled == b.disabled);
    }
    free(text);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
