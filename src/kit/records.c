#include "kit/records.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WORD "hoody-tunnel-records "
#define HEAD_MAX 96 /* bytes of the first line */

static uint64_t hash_of(const uint8_t *p, size_t n) {
    uint64_t h = HT_HASH;
    for (size_t i = 0; i < n; i++)
        h = ht_hash_char(h, (char)p[i]);
    return h;
}

/* ---- writing ---- */

void records_add(struct records_writer *w, const struct restart_message *m) {
    uint8_t *to = w->rc ? NULL : ht_buf_reserve(&w->body, RESTART_LIMIT_MAX_MESSAGE + 1);
    if (!to) {
        w->rc = w->rc ? w->rc : HT_ENOMEM;
        return;
    }
    int n = wire_text_encode(&restart_spec, m, to, RESTART_LIMIT_MAX_MESSAGE);
    if (n < 0) {
        w->rc = n == HT_ESPACE ? HT_EINVAL : n;
        return;
    }
    to[n] = '\n';
    ht_buf_commit(&w->body, (size_t)n + 1);
    w->lines++;
}

int records_finish(struct records_writer *w, struct restart_message *head, struct ht_buf *out) {
    struct records_writer whole = {.rc = w->rc};
    head->type = RESTART_RECORDS;
    head->format = RESTART_LIMIT_FORMAT;
    head->count = w->lines;
    records_add(&whole, head);
    if (whole.rc == HT_OK && ht_buf_size(&w->body))
        whole.rc = ht_buf_append(&whole.body, ht_buf_head(&w->body), ht_buf_size(&w->body));
    ht_buf_free(&w->body);
    size_t n = ht_buf_size(&whole.body);
    if (whole.rc == HT_OK)
        whole.rc = ht_buf_printf(out, WORD "%u %016" PRIx64 " %zu\n", RESTART_LIMIT_FORMAT,
                                 hash_of(ht_buf_head(&whole.body), n), n);
    if (whole.rc == HT_OK)
        whole.rc = ht_buf_append(out, ht_buf_head(&whole.body), n);
    ht_buf_free(&whole.body);
    return whole.rc;
}

/* ---- reading ---- */

static int damaged(struct ht_errmsg *err, const char *what) { return ht_fail(err, HT_EPROTO, "damaged: %s", what); }

/* A decimal number without a sign and without zeros before it. */
static bool number(const char **at, uint64_t *out) {
    const char *p = *at;
    *out = 0;
    if (!ht_is_digit(*p) || (*p == '0' && ht_is_digit(p[1])))
        return false;
    for (; ht_is_digit(*p); p++) {
        if (*out > UINT64_MAX / 10 - 10)
            return false;
        *out = *out * 10 + (uint64_t)(*p - '0');
    }
    *at = p;
    return true;
}

static bool hash_text(const char **at, uint64_t *out) {
    *out = 0;
    for (int i = 0; i < 16; i++) {
        int digit = ht_hex_digit((*at)[i]);
        if (digit < 0 || ((*at)[i] >= 'A' && (*at)[i] <= 'F'))
            return false;
        *out = *out << 4 | (uint64_t)digit;
    }
    *at += 16;
    return true;
}

/* Reads the first line; *body is what follows it. */
static int first_line(struct ht_slice all, uint64_t *of, struct ht_slice *body, struct ht_errmsg *err) {
    char line[HEAD_MAX];
    const char *end = all.n ? memchr(all.p, '\n', ht_min(all.n, sizeof line)) : NULL, *at = line;
    uint64_t format, hash, size;
    if (!end || strncmp(all.p, WORD, sizeof WORD - 1) != 0)
        return damaged(err, "these are no records of sessions");
    size_t n = (size_t)(end - all.p);
    memcpy(line, all.p, n);
    line[n] = '\0';
    at += sizeof WORD - 1;
    if (!number(&at, &format) || format == 0)
        return damaged(err, "their format has no number");
    if (format > RESTART_LIMIT_FORMAT)
        return ht_fail(err, HT_ELIMIT,
                       "a newer version of hoody-tunnel has written them: format %" PRIu64
                       ", and this one knows formats up to %u",
                       format, RESTART_LIMIT_FORMAT);
    if (*at++ != ' ' || !hash_text(&at, &hash) || *at++ != ' ' || !number(&at, &size) || *at)
        return damaged(err, "their first line is no such line");
    *body = ht_slice_of(end + 1, all.n - n - 1);
    if (size != body->n)
        return damaged(err, body->n < size ? "their end is missing" : "there is something behind their end");
    if (hash != hash_of((const uint8_t *)body->p, body->n))
        return damaged(err, "their hash is another one");
    *of = format;
    return HT_OK;
}

/* What may follow a message (rules RREC-3, RREC-4). */
static bool may_follow(unsigned before, enum restart_type type) {
    bool of_binding =
        before == RESTART_BINDING || before == RESTART_NAMED || before == RESTART_HOSTNAME || before == RESTART_CA;
    switch (type) {
    case RESTART_RECORDS:
        return before == 0;
    case RESTART_SESSION:
        return before != 0;
    case RESTART_BINDING:
        return of_binding || before == RESTART_SESSION;
    case RESTART_NAMED:
    case RESTART_HOSTNAME:
        return of_binding;
    case RESTART_CA:
        return of_binding && before != RESTART_CA;
    default:
        return false;
    }
}

static const char *objection(const struct restart_message *m) {
    bool good = true;
    switch (m->type) {
    case RESTART_SESSION:
        good = m->session.n > 0 && m->next_stream >= 2 && m->next_stream % 2 == 0 && m->next_bind > 0 &&
               (m->token.n == 0 || m->token.n == 32) && (m->client.n == 0 || m->client.n == 32);
        break;
    case RESTART_BINDING:
        good = m->bind_id > 0 && m->kind > 0 && m->mode > 0;
        break;
    case RESTART_NAMED:
    case RESTART_HOSTNAME:
    case RESTART_CA:
        good = m->text.n > 0;
        break;
    default:
        break;
    }
    return good ? NULL : "a line lacks what belongs there";
}

/* The next line into *m; its texts point into the copy. NULL, or what is wrong. */
static const char *read_line(struct records *r, struct restart_message *m) {
    struct wire_text_error why;
    uint8_t *end = r->left ? memchr(r->at, '\n', r->left) : NULL;
    size_t n = end ? (size_t)(end - r->at) : 0;
    if (!end || n > RESTART_LIMIT_MAX_MESSAGE)
        return "a line has no end";
    if (wire_text_decode(&restart_spec, RESTART_ROLE_SERVER, r->at, n, &r->used, m, &why) < 0)
        return "a line is no record";
    r->at += n + 1;
    r->left -= n + 1;
    if (!may_follow(r->before, m->type))
        return "a line is in a wrong place";
    r->before = m->type;
    return objection(m);
}

static void rewind_to(struct records *r, struct ht_slice body) {
    memcpy(r->text, body.p, body.n);
    r->at = (uint8_t *)r->text;
    r->left = body.n;
    r->before = 0;
    r->used.used = 0;
}

int records_open(struct records *r, struct ht_slice all, struct ht_errmsg *err) {
    struct ht_slice body = {0};
    struct restart_message m;
    uint64_t format = 0;
    *r = (struct records){.text = NULL};
    int rc = first_line(all, &format, &body, err);
    if (rc < 0)
        return rc;
    r->text = ht_malloc(body.n + 1);
    r->arena = ht_malloc(body.n + 1);
    if (!r->text || !r->arena)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    r->used = (struct json_arena){.p = r->arena, .cap = body.n};
    rewind_to(r, body);
    const char *why = read_line(r, &r->head);
    for (uint32_t i = 0; !why && i < r->head.count; i++)
        why = read_line(r, &m);
    if (!why && r->head.format != format)
        why = "their format is told in two ways";
    if (!why && r->left)
        why = "there are more lines than they say";
    if (why)
        return damaged(err, why);
    rewind_to(r, body); /* Base64 was decoded where it stood */
    (void)!read_line(r, &r->head);
    r->lines = r->head.count;
    return HT_OK;
}

bool records_next(struct records *r, struct restart_message *m) {
    if (r->lines == 0)
        return false;
    r->lines--;
    return read_line(r, m) == NULL;
}

void records_free(struct records *r) {
    ht_free(r->text);
    ht_free(r->arena);
    *r = (struct records){.text = NULL};
}
