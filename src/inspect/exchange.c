/* Reading what is kept: words, and the fields of a head. */
#include "inspect/store.h"

#define WORD(name, word) [name] = word,
#define WORD_OF_3(name, word, more) [name] = word,

const char *inspect_kind_word(enum inspect_kind k) {
    static const char *const words[] = {INSPECT_KINDS(WORD)};
    return words[k];
}

const char *inspect_state_word(enum inspect_state s) {
    static const char *const words[] = {INSPECT_STATES(WORD)};
    return words[s];
}

const char *inspect_fault_word(enum inspect_fault f) {
    static const char *const words[] = {INSPECT_FAULTS(WORD_OF_3)};
    return words[f];
}

const char *inspect_fault_title(enum inspect_fault f) {
#define TITLE(name, word, title) [name] = title,
    static const char *const titles[] = {INSPECT_FAULTS(TITLE)};
    return titles[f];
}

const char *inspect_opcode_word(enum inspect_opcode o) {
    static const char *const words[] = {INSPECT_OPCODES(WORD_OF_3)};
    return words[o];
}

/* ---- fields ---- */

/* The length of the first line with its end; 0: there is none. */
static size_t line_length(struct ht_slice s) {
    const char *end = s.n ? memchr(s.p, '\n', s.n) : NULL;
    return end ? (size_t)(end - s.p) + 1 : s.n;
}

static struct ht_slice behind(struct ht_slice s, size_t n) { return ht_slice_of(s.p ? s.p + n : NULL, s.n - n); }

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static struct ht_slice trim(struct ht_slice s) {
    while (s.n && is_blank(s.p[0]))
        s = behind(s, 1);
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

struct ht_slice inspect_head_fields(const struct ht_buf *head) {
    struct ht_slice all = ht_buf_slice(head);
    return behind(all, line_length(all));
}

bool inspect_field_next(const struct inspect_secrets *secrets, struct ht_slice *lines, struct inspect_field *f) {
    while (lines->n) {
        size_t n = line_length(*lines);
        while (n < lines->n && (lines->p[n] == ' ' || lines->p[n] == '\t')) /* folded (RFC 9112 5.2) */
            n += line_length(behind(*lines, n));
        struct ht_slice line = ht_slice_of(lines->p, n);
        *lines = behind(*lines, n);
        const char *colon = memchr(line.p, ':', line.n);
        if (!colon)
            continue;
        f->name = trim(ht_slice_of(line.p, (size_t)(colon - line.p)));
        f->value = trim(behind(line, (size_t)(colon - line.p) + 1));
        f->secret = inspect_is_secret(secrets, f->name);
        return true;
    }
    return false;
}

struct ht_slice inspect_field(const struct inspect_message *m, const char *name) {
    struct ht_slice lines = inspect_head_fields(&m->head);
    size_t n = strlen(name);
    while (lines.n) { /* not inspect_field_next(): this is asked for while the exchange runs, several times */
        size_t size = line_length(lines);
        if (size > n && lines.p[n] == ':' && ht_slice_case_eq(ht_slice_of(lines.p, n), ht_slice_of(name, n))) {
            struct inspect_field f;
            return inspect_field_next(NULL, &lines, &f) ? f.value : ht_slice_of(NULL, 0);
        }
        lines = behind(lines, size);
    }
    return ht_slice_of(NULL, 0);
}

bool inspect_interim_next(struct ht_slice *heads, struct ht_slice *head) {
    struct ht_slice rest = *heads;
    size_t n;
    if (heads->n == 0)
        return false;
    do {
        n = line_length(rest);
        bool last = trim(ht_slice_of(rest.p, n)).n == 0;
        rest = behind(rest, n);
        if (last)
            break;
    } while (rest.n);
    *head = ht_slice_of(heads->p, heads->n - rest.n);
    *heads = rest;
    return true;
}
