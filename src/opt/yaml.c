#include "opt/yaml.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdlib.h>

#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
#define DEPTH_MAX 16 /* of what is skipped; our own goes three deep */

/* ---- problems ---- */

static bool is_before(struct opt_mark a, struct opt_mark b) {
    return a.line < b.line || (a.line == b.line && a.column < b.column);
}

void opt_file_problem(struct opt_file *c, struct opt_mark at, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->n_problems >= OPT_PROBLEMS_MAX) {
        c->n_more++;
        return;
    }
    /* One line, whatever the file holds; and no half characters where it was cut. */
    size_t len = n < 0 ? 0 : ht_min((size_t)n, sizeof text - 1);
    for (size_t i = 0; i < len;) {
        unsigned w = ht_utf8_len((const uint8_t *)text + i, (const uint8_t *)text + len);
        uint32_t cp = w ? ht_utf8_get((const uint8_t *)text + i, w) : 0;
        if (w == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            memset(text + i, '?', w ? w : 1);
        i += w ? w : 1;
    }
    struct opt_problem *more = ht_realloc(c->problems, (c->n_problems + 1) * sizeof *more);
    if (!more)
        return;
    c->problems = more;
    char *copy = ht_strndup(text, len);
    size_t i = c->n_problems;
    if (!copy)
        return;
    for (; i > 0 && is_before(at, more[i - 1].at); i--)
        more[i] = more[i - 1];
    more[i] = (struct opt_problem){.at = at, .text = copy};
    c->n_problems++;
}

void opt_file_print(const struct opt_file *c, FILE *to) {
    for (size_t i = 0; i < c->n_problems; i++)
        fprintf(to, "%s:%u:%u: error: %s\n", c->name, c->problems[i].at.line, c->problems[i].at.column,
                c->problems[i].text);
    if (c->n_more > 0)
        fprintf(to, "%s: %zu more errors\n", c->name, c->n_more);
}

char *opt_file_keep(struct opt_file *c, const char *text, size_t n) {
    char **more = ht_realloc(c->texts, (c->n_texts + 1) * sizeof *more);
    if (!more)
        return NULL;
    c->texts = more;
    char *copy = ht_strndup(text, n);
    if (copy)
        c->texts[c->n_texts++] = copy;
    return copy;
}

void opt_file_free(struct opt_file *c) {
    for (size_t i = 0; i < c->n_texts; i++) {
        explicit_bzero(c->texts[i], strlen(c->texts[i]));
        ht_free(c->texts[i]);
    }
    for (size_t i = 0; i < c->n_problems; i++)
        ht_free(c->problems[i].text);
    ht_free(c->texts);
    ht_free(c->problems);
    *c = (struct opt_file){.name = NULL};
}

/* ---- events ---- */

static struct opt_mark mark_of(yaml_mark_t m) {
    return (struct opt_mark){(unsigned)m.line + 1, (unsigned)m.column + 1};
}

struct opt_mark opt_yaml_here(const struct opt_yaml *r) {
    return mark_of(r->event.start_mark);
}

static void complain_yaml(struct opt_yaml *r) {
    const yaml_parser_t *y = &r->yaml;
    struct opt_mark at = mark_of(y->problem_mark);
    if (y->error == YAML_READER_ERROR) { /* has an offset and no mark */
        at = mark_of(y->mark);
        opt_file_problem(r->file, at, "not valid YAML: %s", y->problem ? y->problem : "bytes that are no text");
    } else if (y->context) {
        opt_file_problem(r->file, at, "not valid YAML: %s, %s that began on line %zu", y->problem, y->context,
                         y->context_mark.line + 1);
    } else {
        opt_file_problem(r->file, at, "not valid YAML: %s", y->problem ? y->problem : "it could not be read");
    }
}

bool opt_yaml_next(struct opt_yaml *r) {
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = false;
    if (r->rc < 0)
        return false;
    if (!yaml_parser_parse(&r->yaml, &r->event)) {
        r->rc = r->yaml.error == YAML_MEMORY_ERROR ? HT_ENOMEM : HT_EINVAL;
        if (r->rc == HT_EINVAL)
            complain_yaml(r);
        return false;
    }
    r->has_event = true;
    return true;
}

void opt_yaml_skip(struct opt_yaml *r) {
    unsigned depth = 0;
    do {
        switch (r->event.type) {
        case YAML_SEQUENCE_START_EVENT:
        case YAML_MAPPING_START_EVENT:
            depth++;
            break;
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
            depth--;
            break;
        default:
            break;
        }
        if (depth > DEPTH_MAX) {
            opt_file_problem(r->file, opt_yaml_here(r), "nested more than %d deep", DEPTH_MAX);
            r->rc = HT_EINVAL;
        }
    } while (depth > 0 && opt_yaml_next(r));
}

const char *opt_yaml_kind(const struct opt_yaml *r) {
    switch (r->event.type) {
    case YAML_SEQUENCE_START_EVENT:
        return "a list";
    case YAML_MAPPING_START_EVENT:
        return "keys and values";
    case YAML_ALIAS_EVENT:
        return "an alias";
    default:
        return "a value";
    }
}

void opt_yaml_refuse_extras(struct opt_yaml *r) {
    const unsigned char *tag = NULL, *anchor = NULL;
    if (r->event.type == YAML_SCALAR_EVENT) {
        tag = r->event.data.scalar.tag;
        anchor = r->event.data.scalar.anchor;
    } else if (r->event.type == YAML_SEQUENCE_START_EVENT) {
        tag = r->event.data.sequence_start.tag;
        anchor = r->event.data.sequence_start.anchor;
    } else if (r->event.type == YAML_MAPPING_START_EVENT) {
        tag = r->event.data.mapping_start.tag;
        anchor = r->event.data.mapping_start.anchor;
    }
    if (anchor)
        opt_file_problem(r->file, opt_yaml_here(r), "anchors (&%s) are not taken; write the value out",
                         (const char *)anchor);
    if (tag)
        opt_file_problem(r->file, opt_yaml_here(r), "tags (%s) are not taken; write the value alone",
                         (const char *)tag);
}

/*
 * ${NAME} gives way to what the environment says, ${NAME:-text} to the text when that is nothing, $${ stands for ${.
 * False: it was said what is wrong, or r->rc is set. Values are never shown: they may be secrets.
 */
static bool expand(struct opt_yaml *r, const char *what, const char *text, size_t n, struct ht_buf *out) {
    const char *end = text + n;
    while (text < end && r->rc == HT_OK) {
        const char *at = memmem(text, (size_t)(end - text), "${", 2);
        bool escaped = at && at > text && at[-1] == '$';
        size_t plain = (size_t)((at ? at - escaped : end) - text);
        r->rc = ht_buf_append(out, text, plain);
        if (!at || r->rc < 0)
            break;
        if (escaped) {
            r->rc = ht_buf_append(out, "${", 2);
            text = at + 2;
            continue;
        }
        const char *close = memchr(at, '}', (size_t)(end - at));
        size_t name_len = close ? strspn(at + 2, NAME_CHARS) : 0;
        const char *rest = at + 2 + name_len;
        bool has_default = close && rest + 1 < close && memcmp(rest, ":-", 2) == 0;
        char name[128];
        if (name_len == 0 || name_len >= sizeof name || (rest != close && !has_default)) {
            opt_file_problem(r->file, opt_yaml_here(r),
                             "%s: a variable is written ${NAME} or ${NAME:-text}, and ${ itself $${", what);
            return false;
        }
        snprintf(name, sizeof name, "%.*s", (int)name_len, at + 2);
        const char *value = getenv(name);
        if (value && *value) {
            r->rc = ht_buf_append(out, value, strlen(value));
        } else if (has_default) {
            r->rc = ht_buf_append(out, rest + 2, (size_t)(close - rest) - 2);
        } else {
            opt_file_problem(r->file, opt_yaml_here(r),
                             "%s: the variable %s is not set; ${%s:-text} says what stands for it then", what, name,
                             name);
            return false;
        }
        text = close + 1;
    }
    return r->rc == HT_OK;
}

/* The same text, kept, with its variables filled in. NULL as take_scalar(). */
static const char *keep_expanded(struct opt_yaml *r, const char *what, const char *text, size_t n) {
    struct ht_buf b = {0};
    const char *kept = NULL;
    if (!memmem(text, n, "${", 2))
        kept = opt_file_keep(r->file, text, n);
    else if (expand(r, what, text, n, &b))
        kept = opt_file_keep(r->file, b.data ? (const char *)ht_buf_head(&b) : "", ht_buf_size(&b));
    else if (r->rc == HT_OK)
        goto out;
    if (!kept)
        r->rc = HT_ENOMEM;
out:
    if (b.data)
        explicit_bzero(b.data, b.cap);
    ht_buf_free(&b);
    return kept;
}

const char *opt_yaml_text(struct opt_yaml *r, const char *what, const char *example, bool as_it_is) {
    opt_yaml_refuse_extras(r);
    if (r->event.type != YAML_SCALAR_EVENT) {
        opt_file_problem(r->file, opt_yaml_here(r), "%s: one value is expected here and not %s, as in %s", what,
                         opt_yaml_kind(r), example);
        opt_yaml_skip(r);
        return NULL;
    }
    const char *text = (const char *)r->event.data.scalar.value;
    size_t n = r->event.data.scalar.length;
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (n == 0 || (plain && (strcmp(text, "~") == 0 || strcmp(text, "null") == 0))) {
        opt_file_problem(r->file, opt_yaml_here(r), "%s has no value; leave it out, or write one such as %s", what,
                         example);
        return NULL;
    }
    if (memchr(text, '\0', n)) {
        opt_file_problem(r->file, opt_yaml_here(r), "%s: a NUL is in it", what);
        return NULL;
    }
    if (!as_it_is)
        return keep_expanded(r, what, text, n);
    const char *kept = opt_file_keep(r->file, text, n);
    if (!kept)
        r->rc = HT_ENOMEM;
    return kept;
}

/* ---- mappings ---- */

static void complain_unknown(struct opt_yaml *r, const struct opt_mapping *m, struct opt_mark at, const char *name,
                             const char *near) {
    char all[256];
    size_t n = 0;
    if (near) {
        opt_file_problem(r->file, at, "unknown key %s; did you mean %s?", name, near);
        return;
    }
    for (size_t i = 0; i < m->n_keys && n < sizeof all; i++)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", m->keys[i].name);
    opt_file_problem(r->file, at, "unknown key %s; what may stand here is %s", name, all);
}

bool opt_yaml_next_key(struct opt_yaml *r, enum opt_mapping_id id, struct opt_seen *seen, const struct opt_key **key) {
    const struct opt_mapping *m = &opt_mappings[id];
    const char *near = NULL;
    if (!opt_yaml_next(r) || r->event.type == YAML_MAPPING_END_EVENT)
        return false;
    struct opt_mark at = opt_yaml_here(r);
    *key = NULL;
    char name[80] = "";
    opt_yaml_refuse_extras(r);
    bool word = r->event.type == YAML_SCALAR_EVENT;
    if (word) {
        snprintf(name, sizeof name, "%s", (const char *)r->event.data.scalar.value);
        *key = opt_mapping_find(m, name, &near);
    } else {
        opt_file_problem(r->file, at, "a key is a word and not %s", opt_yaml_kind(r));
        opt_yaml_skip(r);
    }
    size_t i = *key ? (size_t)(*key - m->keys) : 0;
    if (word && !*key)
        complain_unknown(r, m, at, name, near);
    else if (*key && seen->at[i].line > 0)
        opt_file_problem(r->file, at, "%s is given twice, first on line %u; leave one of them out", name,
                         seen->at[i].line);
    if (!opt_yaml_next(r))
        return false;
    if (!*key || seen->at[i].line > 0) {
        opt_yaml_skip(r);
        *key = NULL;
    } else {
        seen->at[i] = at;
    }
    return true;
}

void opt_yaml_require(struct opt_yaml *r, enum opt_mapping_id id, const struct opt_seen *seen, struct opt_mark at) {
    const struct opt_mapping *m = &opt_mappings[id];
    for (size_t i = 0; i < m->n_keys; i++)
        if (m->keys[i].required && seen->at[i].line == 0)
            opt_file_problem(r->file, at, "%s is missing, as in %s: %s", m->keys[i].name, m->keys[i].name,
                             m->keys[i].example);
}

void opt_yaml_set(struct opt_yaml *r, enum opt_mapping_id id, void *out, const struct opt_key *key) {
    struct opt_mark at = opt_yaml_here(r);
    struct ht_errmsg err;
    const char *text = opt_yaml_text(r, key->name, key->example, r->as_it_is);
    int rc = text ? opt_mapping_set(&opt_mappings[id], out, key, text, &err) : HT_OK;
    if (rc == HT_ENOMEM)
        r->rc = rc;
    else if (rc < 0)
        opt_file_problem(r->file, at, "%s", err.text);
}

bool opt_yaml_has(struct opt_yaml *r, const struct opt_key *key, yaml_event_type_t type, const char *wanted) {
    if (r->event.type == type) {
        opt_yaml_refuse_extras(r);
        return true;
    }
    opt_file_problem(r->file, opt_yaml_here(r), "%s: %s expected here and not %s, as in %s", key->name, wanted,
                     opt_yaml_kind(r), key->example);
    opt_yaml_skip(r);
    return false;
}

/* ---- all of it ---- */

static void read_stream(struct opt_yaml *r, void (*top)(struct opt_yaml *r), const char *empty) {
    unsigned documents = 0;
    while (opt_yaml_next(r)) {
        switch (r->event.type) {
        case YAML_STREAM_END_EVENT:
            if (documents == 0)
                opt_file_problem(r->file, (struct opt_mark){1, 1}, "%s", empty);
            return;
        case YAML_DOCUMENT_START_EVENT:
            if (documents++ > 0) {
                opt_file_problem(r->file, opt_yaml_here(r), "a second document begins here; one is all that is read");
                return;
            }
            if (opt_yaml_next(r))
                top(r);
            break;
        default:
            break;
        }
    }
}

int opt_yaml_read(struct opt_file *file, const char *text, size_t n, void (*top)(struct opt_yaml *r),
                  const char *empty) {
    struct opt_yaml r = {.file = file};
    if (n > OPT_FILE_MAX) {
        opt_file_problem(file, (struct opt_mark){1, 1}, "the file is larger than %u bytes", OPT_FILE_MAX);
        return HT_EINVAL;
    }
    if (n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        opt_file_problem(file, (struct opt_mark){1, 1}, "the file is UTF-16; save it as UTF-8");
        return HT_EINVAL;
    }
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark, as some editors write (YAML 1.2, 5.2) */
        text += 3;
        n -= 3;
    }
    if (!yaml_parser_initialize(&r.yaml))
        return HT_ENOMEM;
    yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)text, n);
    read_stream(&r, top, empty);
    if (r.has_event)
        yaml_event_delete(&r.event);
    yaml_parser_delete(&r.yaml);
    return r.rc;
}
