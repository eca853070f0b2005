#include "edge/acme_plan.h"

#include "base/mem.h"
#include "base/text.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>

#define SECRET_MIN 24 /* letters, digits, - and _ in a row: a token or a digest of one, and no word */
#define VALUE_MIN 4   /* of a variable; shorter ones are in words */

uint32_t acme_spread(const char *name) {
    uint64_t h = HT_HASH;
    for (; *name; name++)
        h = ht_hash_char(h, *name);
    return (uint32_t)(h ^ h >> 32);
}

int64_t acme_renew_at(int64_t begins, int64_t ends, uint32_t spread) {
    int64_t life = ends > begins ? ends - begins : 0;
    return ends - life / 3 - (int64_t)((double)life / 20 * spread / UINT32_MAX);
}

uint64_t acme_wait_ms(uint64_t base, unsigned failures, uint32_t spread) {
    uint64_t wait = ht_min64(base, ACME_DAY_MS);
    for (unsigned i = 1; i < failures && wait < (uint64_t)ACME_DAY_MS; i++)
        wait = ht_min64(wait * 2, ACME_DAY_MS);
    return wait - wait / 4 + (uint64_t)((double)(wait / 2) * spread / UINT32_MAX);
}

/* ---- orders of the last day ---- */

size_t acme_ledger_count(struct acme_ledger *l, int64_t now) {
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i] > now - ACME_DAY_MS && l->at[i] < now + ACME_DAY_MS)
            l->at[kept++] = l->at[i];
    l->n = kept;
    return kept;
}

int acme_ledger_add(struct acme_ledger *l, int64_t now) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        int64_t *more = ht_realloc(l->at, cap * sizeof *more);
        if (!more)
            return HT_ENOMEM;
        l->at = more;
        l->cap = cap;
    }
    l->at[l->n++] = now;
    return HT_OK;
}

int64_t acme_ledger_free_at(struct acme_ledger *l, int64_t now, size_t most) {
    size_t n = acme_ledger_count(l, now);
    return n < most ? now : l->at[n - most] + ACME_DAY_MS;
}

int acme_ledger_put(const struct acme_ledger *l, struct ht_buf *out) {
    int rc = ht_buf_append_str(out, "{\"orders\":[");
    for (size_t i = 0; rc == HT_OK && i < l->n; i++)
        rc = ht_buf_printf(out, "%s%" PRId64, i ? "," : "", l->at[i]);
    return rc == HT_OK ? ht_buf_append_str(out, "]}\n") : rc;
}

int acme_ledger_read(struct acme_ledger *l, struct ht_slice json) {
    struct json_reader r;
    struct ht_slice key;
    uint64_t at;
    int more, rc = HT_OK;
    l->n = 0;
    json_begin(&r, json.p, json.n, NULL);
    if (json_object_begin(&r) < 0 || json_object_next(&r, &key) <= 0 || !ht_slice_is(key, "orders") ||
        json_array_begin(&r) < 0)
        return HT_EPROTO;
    while (rc == HT_OK && (more = json_array_next(&r)) != 0)
        rc = more < 0 || json_read_uint(&r, &at) != 0 || at > INT64_MAX / 2 ? HT_EPROTO
                                                                            : acme_ledger_add(l, (int64_t)at);
    if (rc == HT_OK && (json_object_next(&r, &key) != 0 || json_end(&r) < 0))
        rc = HT_EPROTO;
    return rc;
}

void acme_ledger_free(struct acme_ledger *l) {
    ht_free(l->at);
    *l = (struct acme_ledger){0};
}

/* ---- what has become of a domain's attempts ---- */

int acme_record_put(const struct acme_record *r, struct ht_buf *out) {
    char error[6 * ACME_ERROR];
    ht_text_put(ht_slice_str(r->error), HT_TEXT_JSON, error, sizeof error);
    return ht_buf_printf(out, "{\"failures\":%u,\"running\":%s,\"next\":%" PRId64 ",\"error\":\"%s\"}\n", r->failures,
                         r->running ? "true" : "false", r->next, error);
}

static bool read_member(struct json_reader *r, struct ht_slice key, struct acme_record *out) {
    uint64_t n;
    struct ht_slice text;
    char space[6 * ACME_ERROR];
    struct json_arena arena = {.p = space, .cap = sizeof space};
    if (ht_slice_is(key, "running"))
        return json_read_bool(r, &out->running) == 0;
    if (ht_slice_is(key, "error")) {
        if (json_read_string(r, false, &arena, &text) != 0 || text.n >= sizeof out->error)
            return false;
        snprintf(out->error, sizeof out->error, "%.*s", HT_SLICE_ARG(text));
        return true;
    }
    bool failures = ht_slice_is(key, "failures");
    if ((!failures && !ht_slice_is(key, "next")) || json_read_uint(r, &n) != 0 ||
        n > (failures ? INT32_MAX : INT64_MAX / 2))
        return false;
    if (failures)
        out->failures = (unsigned)n;
    else
        out->next = (int64_t)n;
    return true;
}

int acme_record_read(struct acme_record *out, struct ht_slice json) {
    struct json_reader r;
    struct ht_slice key;
    int more;
    *out = (struct acme_record){0};
    json_begin(&r, json.p, json.n, NULL);
    bool good = json_object_begin(&r) == 0;
    while (good && (more = json_object_next(&r, &key)) != 0)
        good = more > 0 && read_member(&r, key, out);
    good = good && json_end(&r) == 0;
    if (!good)
        *out = (struct acme_record){0};
    return good ? HT_OK : HT_EPROTO;
}

/* ---- the environment file ---- */

static bool good_var(const char *line) {
    size_t n = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    return n > 0 && line[n] == '=' && !ht_is_digit(line[0]);
}

int acme_env_read(struct acme_env *out, struct ht_slice text, struct ht_errmsg *err) {
    size_t lines = 1;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    *out = (struct acme_env){.text = ht_strndup(text.p ? text.p : "", text.n),
                             .vars = ht_calloc(lines + 1, sizeof *out->vars)};
    if (!out->text || !out->vars) {
        acme_env_free(out);
        return ht_fail(err, HT_ENOMEM, "out of memory");
    }
    size_t number = 1;
    for (char *line = out->text, *after; line; line = after, number++) {
        after = strchr(line, '\n');
        if (after)
            *after++ = '\0';
        size_t n = strlen(line);
        if (n && line[n - 1] == '\r')
            line[--n] = '\0';
        if (n == 0 || line[0] == '#')
            continue;
        if (!good_var(line)) {
            acme_env_free(out);
            return ht_fail(err, HT_EINVAL, "line %zu is not NAME=VALUE", number);
        }
        out->vars[out->n++] = line;
    }
    return HT_OK;
}

void acme_env_free(struct acme_env *e) {
    for (size_t i = 0; e->vars && i < e->n; i++)
        explicit_bzero(strchr(e->vars[i], '=') + 1, strlen(strchr(e->vars[i], '=') + 1));
    ht_free(e->vars);
    ht_free(e->text);
    *e = (struct acme_env){0};
}

/* ---- what lego says ---- */

static size_t value_at(struct ht_slice s, const struct acme_env *env) {
    for (size_t i = 0; env && i < env->n; i++) {
        const char *value = strchr(env->vars[i], '=') + 1;
        size_t n = strlen(value);
        if (n >= VALUE_MIN && n <= s.n && memcmp(s.p, value, n) == 0)
            return n;
    }
    return 0;
}

static bool is_secret_char(char c) {
    return ht_is_digit(c) || (ht_lower(c) >= 'a' && ht_lower(c) <= 'z') || c == '-' || c == '_';
}

static size_t run_at(struct ht_slice s) {
    size_t n = 0;
    while (n < s.n && is_secret_char(s.p[n]))
        n++;
    return n;
}

/* 2026/01/31 12:00:00 */
static struct ht_slice without_time(struct ht_slice line) {
    static const char form[] = "dddd/dd/dd dd:dd:dd ";
    size_t n = sizeof form - 1;
    for (size_t i = 0; i < n; i++)
        if (i >= line.n || (form[i] == 'd' ? !ht_is_digit(line.p[i]) : line.p[i] != form[i]))
            return line;
    return ht_slice_of(line.p + n, line.n - n);
}

bool acme_reason(struct ht_slice line, const struct acme_env *env, char out[ACME_ERROR]) {
    char masked[4 * ACME_ERROR];
    size_t at = 0;
    struct ht_slice s = without_time(line);
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s = ht_slice_of(s.p + 1, s.n - 1);
    while (s.n && at + 4 < sizeof masked) {
        size_t hidden = value_at(s, env), run = run_at(s);
        size_t plain = hidden ? 0 : run && run < SECRET_MIN && !env ? run : 1;
        if (!hidden && run >= SECRET_MIN && (at == 0 || !is_secret_char(masked[at - 1])))
            hidden = run;
        plain = hidden ? 0 : ht_min(plain, sizeof masked - 1 - at);
        memcpy(masked + at, hidden ? "***" : s.p, hidden ? 3 : plain);
        at += hidden ? 3 : plain;
        s = ht_slice_of(s.p + hidden + plain, s.n - hidden - plain);
    }
    ht_text_put(ht_slice_of(masked, at), HT_TEXT_PLAIN, out, ACME_ERROR);
    return at > 0;
}

/* ---- PEM ---- */

static bool is_base64_line(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!ht_is_digit(s.p[i]) && (ht_lower(s.p[i]) < 'a' || ht_lower(s.p[i]) > 'z') && s.p[i] != '+' &&
            s.p[i] != '/' && s.p[i] != '=')
            return false;
    return s.n > 0 && s.n <= 76;
}

/* What is between "-----BEGIN " and "-----", or END; empty: it is no such line. */
static struct ht_slice mark(struct ht_slice line, const char *word) {
    size_t n = strlen(word);
    bool is = line.n > n + 5 && memcmp(line.p, word, n) == 0 && memcmp(line.p + line.n - 5, "-----", 5) == 0;
    return is ? ht_slice_of(line.p + n, line.n - n - 5) : ht_slice_of(NULL, 0);
}

static bool is_wanted(struct ht_slice kind) {
    static const char *const kinds[] = {"CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"};
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++)
        if (ht_slice_is(kind, kinds[i]))
            return true;
    return false;
}

static struct ht_slice next_line(struct ht_slice *text) {
    const char *end = memchr(text->p, '\n', text->n);
    size_t n = end ? (size_t)(end - text->p) : text->n;
    struct ht_slice line = ht_slice_of(text->p, n);
    *text = ht_slice_of(text->p + n + (end ? 1 : 0), text->n - n - (end ? 1 : 0));
    while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t' || line.p[line.n - 1] == '\r'))
        line.n--;
    return line;
}

int acme_pem_clean(struct ht_slice text, struct ht_buf *out, struct ht_errmsg *err) {
    struct ht_slice kind = {0};
    bool inside = false, keeps = false;
    size_t blocks = 0;
    int rc = HT_OK;
    while (text.n && rc == HT_OK) {
        struct ht_slice line = next_line(&text), begin = mark(line, "-----BEGIN "), end = mark(line, "-----END ");
        if (!inside && begin.p) {
            kind = begin;
            keeps = is_wanted(kind);
            if (!keeps && !ht_slice_is(kind, "EC PARAMETERS"))
                return ht_fail(err, HT_EINVAL,
                               "a block of the PEM is neither a CERTIFICATE nor a PRIVATE KEY without a password");
            inside = true;
            blocks += keeps;
        } else if (!inside) {
            continue; /* words around blocks */
        } else if (end.p && ht_slice_eq(end, kind)) {
            inside = false;
        } else if (!is_base64_line(line)) {
            return ht_fail(err, HT_EINVAL,
                           "a block of the PEM has a line that none has: is it whole, and without a password?");
        }
        if (keeps)
            rc = ht_buf_printf(out, "%.*s\n", HT_SLICE_ARG(line));
        if (!inside)
            keeps = false;
    }
    if (rc < 0)
        return ht_fail(err, rc, "out of memory");
    return blocks && !inside
               ? HT_OK
               : ht_fail(err, HT_EINVAL, blocks ? "the PEM ends within a block" : "there is no PEM in it");
}
