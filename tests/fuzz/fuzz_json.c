/*
 * The strict JSON reader, against a second reading of RFC 8259 written for this test, and against cJSON.
 *
 * Input: limits (one byte: NUL refused, depth, keys), the text.
 *
 * The second reading must agree exactly. cJSON (1.7.15) differs where it is known to:
 *   accepts, we refuse   a byte order mark; bytes that are not UTF-8; control bytes in strings and as white space;
 * numbers as strtod() takes them ("01", "1.", "-", ".5"); 1e308 and beyond; a key twice; anything over our limits
 *   refuses, we accept   numbers of 64 or more characters
 */
#include "base/utf8.h"
#include "fuzz.h"
#include "wire/bytes.h"
#include "json/json.h"

#include <cjson/cJSON.h>

/* ---- the second reading ---- */

#define MOST 8192

struct name {
    size_t object; /* which one it belongs to */
    struct ht_slice text;
};

struct reading {
    const uint8_t *p, *end;
    size_t depth, deepest, open_keys, most_keys, objects, n_names;
    size_t text_n;
    bool twice, nul, large, borderline, long_number;
    struct name names[MOST]; /* from here on nothing need be cleared */
    char text[MOST * 4];
};

static void blanks(struct reading *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool byte(struct reading *r, uint8_t b) {
    if (r->p == r->end || *r->p != b)
        return false;
    r->p++;
    return true;
}

static int hex4(struct reading *r) {
    int v = 0;
    for (int i = 0; i < 4; i++, r->p++) {
        if (r->p == r->end)
            return -1;
        const char *digits = "0123456789abcdef", *at = *r->p ? strchr(digits, *r->p | 0x20) : NULL;
        if (!at || (*r->p >= 0x10 && *r->p < 0x20))
            return -1;
        v = v * 16 + (int)(at - digits);
    }
    return v;
}

static bool escape(struct reading *r, uint32_t *cp) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->p == r->end)
        return false;
    uint8_t c = *r->p++;
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        *cp = (uint8_t)to[at - from];
        return true;
    }
    int high = c == 'u' ? hex4(r) : -1;
    if (high < 0 || (high >= 0xDC00 && high < 0xE000))
        return false;
    *cp = (uint32_t)high;
    if (high < 0xD800 || high >= 0xE000)
        return true;
    int low = byte(r, '\\') && byte(r, 'u') ? hex4(r) : -1;
    if (low < 0xDC00 || low >= 0xE000)
        return false;
    *cp = 0x10000u + (uint32_t)(high - 0xD800) * 1024u + (uint32_t)(low - 0xDC00);
    return true;
}

static bool string(struct reading *r, struct ht_slice *out) {
    char *first = r->text + r->text_n;
    if (!byte(r, '"'))
        return false;
    while (r->p < r->end && *r->p != '"') {
        uint32_t cp;
        if (*r->p < 0x20)
            return false;
        if (*r->p == '\\') {
            r->p++;
            if (!escape(r, &cp))
                return false;
        } else {
            unsigned n = ht_utf8_len(r->p, r->end);
            if (n == 0)
                return false;
            cp = ht_utf8_get(r->p, n);
            r->p += n;
        }
        r->nul = r->nul || cp == 0;
        r->text_n += ht_utf8_put((uint8_t *)r->text + r->text_n, cp);
    }
    *out = ht_slice_of(first, (size_t)(r->text + r->text_n - first));
    return byte(r, '"');
}

static bool digits(struct reading *r) {
    const uint8_t *first = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return r->p > first;
}

static bool number(struct reading *r) {
    char copy[MOST + 1];
    const uint8_t *first = r->p;
    (void)byte(r, '-');
    if (!byte(r, '0') && !digits(r))
        return false;
    if (byte(r, '.') && !digits(r))
        return false;
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        r->p++;
        if (!byte(r, '+'))
            (void)byte(r, '-');
        if (!digits(r))
            return false;
    }
    size_t n = (size_t)(r->p - first);
    memcpy(copy, first, n);
    copy[n] = '\0';
    double v = strtod(copy, NULL);
    r->large = r->large || v > 1e308 || v < -1e308;
    r->borderline = r->borderline || v == 1e308 || v == -1e308; /* it may have been rounded up */
    r->long_number = r->long_number || n > 63;
    return true;
}

static bool value(struct reading *r);

static bool member(struct reading *r, size_t object) {
    struct ht_slice key;
    blanks(r);
    if (!string(r, &key))
        return false;
    for (size_t i = 0; i < r->n_names; i++)
        if (r->names[i].object == object && ht_slice_eq(r->names[i].text, key))
            r->twice = true;
    r->names[r->n_names++] = (struct name){object, key};
    r->open_keys++;
    r->most_keys = ht_max(r->most_keys, r->open_keys);
    blanks(r);
    return byte(r, ':') && value(r);
}

static bool items(struct reading *r, bool object) {
    size_t me = ++r->objects, keys = r->open_keys;
    uint8_t close = object ? '}' : ']';
    r->p++;
    r->deepest = ht_max(r->deepest, ++r->depth);
    blanks(r);
    bool ok = true;
    if (!byte(r, close)) {
        do
            ok = object ? member(r, me) : value(r);
        while (ok && byte(r, ','));
        ok = ok && byte(r, close);
    }
    r->depth--;
    r->open_keys = keys;
    return ok;
}

static bool value(struct reading *r) {
    static const char *const words[] = {"true", "false", "null"};
    struct ht_slice text;
    bool ok = false;
    blanks(r);
    if (r->p == r->end)
        return false;
    if (*r->p == '{' || *r->p == '[') {
        ok = items(r, *r->p == '{');
    } else if (*r->p == '"') {
        ok = string(r, &text);
    } else if (*r->p == '-' || (*r->p >= '0' && *r->p <= '9')) {
        ok = number(r);
    } else {
        for (size_t i = 0; i < HT_ARRAY_LEN(words) && !ok; i++) {
            size_t n = strlen(words[i]);
            ok = (size_t)(r->end - r->p) >= n && memcmp(r->p, words[i], n) == 0;
            r->p += ok ? n : 0;
        }
    }
    blanks(r);
    return ok;
}

/* ---- the reader beside cJSON's tree ---- */

static void same(struct json_reader *r, const cJSON *tree, struct json_arena *arena, bool nul) {
    struct ht_slice text;
    uint64_t u;
    bool b;
    int rc;
    FUZZ_CHECK(tree != NULL);
    switch (json_peek(r)) {
    case JSON_T_OBJECT:
        FUZZ_CHECK(cJSON_IsObject(tree) && json_object_begin(r) == 0);
        tree = tree->child;
        while ((rc = json_object_next(r, &text)) > 0) {
            FUZZ_CHECK(tree != NULL);
            /* A key that is long and escaped is given as it stands. */
            if (!memchr(text.p ? text.p : "", '\\', text.n) && !nul)
                FUZZ_CHECK(ht_slice_is(text, tree->string));
            same(r, tree, arena, nul);
            tree = tree->next;
        }
        FUZZ_CHECK(rc == 0 && !tree);
        break;
    case JSON_T_ARRAY:
        FUZZ_CHECK(cJSON_IsArray(tree) && json_array_begin(r) == 0);
        tree = tree->child;
        while ((rc = json_array_next(r)) > 0) {
            same(r, tree, arena, nul);
            tree = tree->next;
        }
        FUZZ_CHECK(rc == 0 && !tree);
        break;
    case JSON_T_STRING:
        FUZZ_CHECK(cJSON_IsString(tree) && json_read_string(r, false, arena, &text) >= 0);
        if (!nul)
            FUZZ_CHECK(ht_slice_is(text, tree->valuestring));
        break;
    case JSON_T_NUMBER:
        FUZZ_CHECK(cJSON_IsNumber(tree) && (rc = json_read_uint(r, &u)) >= 0);
        if (rc == 0)
            FUZZ_CHECK((double)u == tree->valuedouble);
        break;
    case JSON_T_BOOL:
        FUZZ_CHECK(cJSON_IsBool(tree) && json_read_bool(r, &b) == 0 && b == !!cJSON_IsTrue(tree));
        break;
    default:
        FUZZ_CHECK(cJSON_IsNull(tree) && json_skip(r) == 0);
        break;
    }
}

static void beside_cjson(const char *text, size_t n, const struct json_limits *limits, const struct reading *second,
                         int rc, const struct json_error *err) {
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, n, &end, 0);
    while (tree && end < text + n && (unsigned char)*end <= ' ')
        end++;
    bool taken = tree && end == text + n;
    if (rc == 0 && !second->long_number) {
        struct json_arena arena = {.p = malloc(n + 1), .cap = n};
        struct json_reader r;
        FUZZ_CHECK(taken && arena.p);
        json_begin(&r, text, n, limits);
        same(&r, tree, &arena, second->nul);
        FUZZ_CHECK(json_end(&r) == 0);
        free(arena.p);
    } else if (rc < 0 && taken) {
        FUZZ_CHECK(err->reason != JSON_SURROGATE || second->nul);
    }
    cJSON_Delete(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const unsigned depths[] = {64, 16, 3, 1}, keys[] = {256, 64, 3, 1};
    static struct reading second;
    struct fuzz_in in = {data, data + size};
    uint8_t how = fuzz_u8(&in);
    struct json_limits limits = {depths[(how >> 1) & 3], keys[(how >> 3) & 3], how & 1};
    size_t n = ht_min(fuzz_left(&in), MOST - 1);
    char *text = fuzz_copy(in.p, n);

    memset(&second, 0, offsetof(struct reading, names));
    second.p = (const uint8_t *)text;
    second.end = second.p + n;
    bool grammar = value(&second) && second.p == second.end;
    bool good = grammar && second.deepest <= limits.max_depth && second.most_keys <= limits.max_keys && !second.twice &&
                !second.large && !(second.nul && limits.refuse_nul);
    struct json_error err = {JSON_OK, 0};
    int rc = json_validate(text, n, &limits, &err);
    FUZZ_CHECK((rc == 0) == good || (good && second.borderline));
    if (rc < 0)
        FUZZ_CHECK(rc == HT_EPROTO && err.reason != JSON_OK && err.offset <= n && json_reason_text(err.reason)[0]);
    beside_cjson(text, n, &limits, &second, rc, &err);
    free(text);
    return 0;
}
