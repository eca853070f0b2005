/*
 * Chunked bodies: decoded in place, in pieces, beside a decoder that sees the whole text at once.
 *
 * Input: how it is cut (one byte), the body and what follows it.
 */
#include "fuzz.h"
#include "http/http.h"

#define MOST 8192 /* below the limit on extensions and trailers, which the second decoder does not know */

enum verdict { MORE, DONE, BAD };

struct second {
    const char *p, *end;
    enum verdict v; /* once it is not DONE nothing goes on */
    char body[MOST];
    size_t n;
};

/* The next byte, or -1 behind the end. */
static int at(const struct second *d) { return d->p < d->end ? (unsigned char)*d->p : -1; }

static bool stop(struct second *d) {
    d->v = d->p == d->end ? MORE : BAD;
    return false;
}

static bool is_text(int c) { return c == '\t' || (c >= ' ' && c != 0x7f); }

static bool is_tchar(int c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c > 0 && c < 0x80 && strchr("!#$%&'*+-.^_`|~", c));
}

static bool take(struct second *d, char c) {
    if (at(d) != c)
        return stop(d);
    d->p++;
    return true;
}

static bool crlf(struct second *d) { return take(d, '\r') && take(d, '\n'); }

static void blanks(struct second *d) {
    while (at(d) == ' ' || at(d) == '\t')
        d->p++;
}

static bool token(struct second *d) {
    if (!is_tchar(at(d)))
        return stop(d);
    while (is_tchar(at(d)))
        d->p++;
    return true;
}

static bool quoted(struct second *d) {
    d->p++;
    while (at(d) != '"') {
        if (at(d) == '\\')
            d->p++;
        if (!is_text(at(d)))
            return stop(d);
        d->p++;
    }
    d->p++;
    return true;
}

/* RFC 9112 7.1.1: *( BWS ";" BWS name [ BWS "=" BWS value ] ); no blanks before the CRLF. */
static bool extensions(struct second *d) {
    while (at(d) != '\r') {
        blanks(d);
        if (!take(d, ';'))
            return false;
        blanks(d);
        if (!token(d))
            return false;
        const char *behind = d->p;
        blanks(d);
        if (at(d) == '=') {
            d->p++;
            blanks(d);
            if (!(at(d) == '"' ? quoted(d) : token(d)))
                return false;
        } else if (at(d) == -1) {
            return stop(d);
        } else {
            d->p = behind;
        }
    }
    return true;
}

static bool size_line(struct second *d, uint64_t *size) {
    const char *digits = "0123456789abcdef", *found;
    const char *first = d->p;
    *size = 0;
    while (at(d) > ' ' && at(d) < 0x80 && (found = strchr(digits, at(d) | 0x20))) {
        if (*size >> 59)
            return d->v = BAD, false;
        *size = *size * 16 + (uint64_t)(found - digits);
        d->p++;
    }
    if (d->p == first)
        return stop(d);
    return extensions(d) && crlf(d);
}

static bool trailers(struct second *d) {
    while (at(d) != '\r') {
        if (!token(d) || !take(d, ':'))
            return false;
        while (is_text(at(d)))
            d->p++;
        if (!crlf(d))
            return false;
    }
    return crlf(d);
}

static void decode_all(struct second *d) {
    uint64_t size;
    d->v = DONE;
    while (size_line(d, &size) && size > 0) {
        size_t n = (size_t)(size < (uint64_t)(d->end - d->p) ? size : (uint64_t)(d->end - d->p));
        memcpy(d->body + d->n, d->p, n);
        d->n += n;
        d->p += n;
        if (n < size) {
            d->v = MORE;
            return;
        }
        if (!crlf(d))
            return;
    }
    if (d->v == DONE)
        (void)trailers(d);
}

struct cuts {
    size_t at;
    uint32_t seed;
    bool bytes;
};

static void decode_in_pieces(const char *in, size_t n, struct cuts cuts, const struct second *want) {
    struct http_chunked c = {0};
    struct http_error e = {0};
    size_t off = 0, got = 0;
    int rc = 0;
    while (off < n && !c.done && rc == 0) {
        size_t piece = cuts.bytes ? 1 : cuts.seed ? 1 + fuzz_next(&cuts.seed) % 64 : off < cuts.at ? cuts.at - off : n;
        piece = ht_min(piece, n - off);
        char *buf = fuzz_copy(in + off, piece);
        size_t len = piece, used = 0;
        rc = http_chunked_decode(&c, buf, &len, &used, &e);
        FUZZ_CHECK(len <= used && used <= piece);
        FUZZ_CHECK(got + len <= want->n && memcmp(buf, want->body + got, len) == 0);
        FUZZ_CHECK(rc < 0 || used == piece || c.done);
        FUZZ_CHECK(memcmp(buf + used, in + off + used, piece - used) == 0); /* the next message is untouched */
        got += len;
        off += used;
        free(buf);
    }
    if (rc < 0) {
        FUZZ_CHECK(rc == HT_EPROTO && e.status == 400 && e.text[0] && want->v == BAD && !c.done);
        size_t len = 0, used = 0;
        char none[1];
        FUZZ_CHECK(http_chunked_decode(&c, none, &len, &used, &e) == HT_EPROTO); /* and stays refused */
    } else if (c.done) {
        FUZZ_CHECK(want->v == DONE && off == (size_t)(want->p - in) && got == want->n);
    } else {
        FUZZ_CHECK(want->v == MORE && got == want->n);
    }
}

/* The loose rules, those for a local service: the same however it is cut, and not odd exactly where the strict ones
 * take it. */
static void decode_loose(const char *in, size_t n, size_t cut, const struct second *want) {
    struct http_chunked c = {.loose = true};
    struct http_error e = {0};
    static char body[MOST];
    static uint64_t whole_hash;
    static bool whole_odd, whole_done;
    size_t got = 0, off = 0;
    int rc = 0;
    while (off < n && !c.done && rc == 0) {
        size_t piece = off < cut ? cut - off : n - off;
        char *buf = fuzz_copy(in + off, piece);
        size_t len = piece, used = 0;
        rc = http_chunked_decode(&c, buf, &len, &used, &e);
        FUZZ_CHECK(len <= used && used <= piece && got + len <= sizeof body);
        memcpy(body + got, buf, len);
        got += len;
        off += used;
        free(buf);
    }
    uint64_t hash = fuzz_hash(FUZZ_HASH, body, got) + (rc < 0);
    if (cut == 0) {
        whole_hash = hash;
        whole_odd = c.odd;
        whole_done = c.done;
    }
    FUZZ_CHECK(hash == whole_hash && c.done == whole_done && (!c.done || c.odd == whole_odd));
    FUZZ_CHECK((c.done && !c.odd) == (want->v == DONE));
    if (want->v == DONE)
        FUZZ_CHECK(got == want->n && memcmp(body, want->body, got) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct second want;
    struct fuzz_in in = {data, data + size};
    uint8_t how = fuzz_u8(&in);
    size_t n = ht_min(fuzz_left(&in), MOST);
    char *text = fuzz_copy(in.p, n);
    want.p = text;
    want.end = text + n;
    want.n = 0;
    decode_all(&want);
    decode_in_pieces(text, n, (struct cuts){.at = n}, &want);
    decode_in_pieces(text, n, (struct cuts){.bytes = true}, &want);
    for (uint32_t i = 1; i <= 8; i++)
        decode_in_pieces(text, n, (struct cuts){.seed = how + 256 * i}, &want);
    for (size_t i = 0; i < n && n <= 200; i++)
        decode_in_pieces(text, n, (struct cuts){.at = i}, &want);
    for (size_t i = 0; i < n && (i == 0 || n <= 200); i++)
        decode_loose(text, n, i, &want);
    free(text);
    return 0;
}
