#include "cli/config.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <yaml.h>

#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
#define DEPTH_MAX 16 /* of what is skipped; our own goes three deep */

struct reader {
    struct cli_config *c;
    yaml_parser_t yaml;
    yaml_event_t event; /* the present one; owned */
    bool has_event;
    int rc; /* HT_EINVAL: no YAML, and said so; HT_ENOMEM */
};

/* ---- problems ---- */

static bool is_before(struct cli_mark a, struct cli_mark b) {
    return a.line < b.line || (a.line == b.line && a.column < b.column);
}

void cli_config_problem(struct cli_config *c, struct cli_mark at, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->n_problems >= CLI_PROBLEMS_MAX) {
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
    struct cli_problem *more = ht_realloc(c->problems, (c->n_problems + 1) * sizeof *more);
    if (!more)
        return;
    c->problems = more;
    char *copy = ht_strndup(text, len);
    size_t i = c->n_problems;
    if (!copy)
        return;
    for (; i > 0 && is_before(at, more[i - 1].at); i--)
        more[i] = more[i - 1];
    more[i] = (struct cli_problem){.at = at, .text = copy};
    c->n_problems++;
}

void cli_config_print_problems(const struct cli_config *c, FILE *to) {
    for (size_t i = 0; i < c->n_problems; i++)
        fprintf(to, "%s:%u:%u: error: %s\n", c->name, c->problems[i].at.line, c->problems[i].at.column,
                c->problems[i].text);
    if (c->n_more > 0)
        fprintf(to, "%s: %zu more errors\n", c->name, c->n_more);
}

char *cli_config_keep(struct cli_config *c, const char *text, size_t n) {
    char **more = ht_realloc(c->texts, (c->n_texts + 1) * sizeof *more);
    if (!more)
        return NULL;
    c->texts = more;
    char *copy = ht_strndup(text, n);
    if (copy)
        c->texts[c->n_texts++] = copy;
    return copy;
}

/* ---- events ---- */

static struct cli_mark mark_of(yaml_mark_t m) {
    return (struct cli_mark){(unsigned)m.line + 1, (unsigned)m.column + 1};
}

static struct cli_mark here(const struct reader *r) { return mark_of(r->event.start_mark); }

static void complain_yaml(struct reader *r) {
    const yaml_parser_t *y = &r->yaml;
    struct cli_mark at = mark_of(y->problem_mark);
    if (y->error == YAML_READER_ERROR) { /* has an offset and no mark */
        at = mark_of(y->mark);
        cli_config_problem(r->c, at, "not valid YAML: %s", y->problem ? y->problem : "bytes that are no text");
    } else if (y->context) {
        cli_config_problem(r->c, at, "not valid YAML: %s, %s that began on line %zu", y->problem, y->context,
                           y->context_mark.line + 1);
    } else {
        cli_config_problem(r->c, at, "not valid YAML: %s", y->problem ? y->problem : "it could not be read");
    }
}

/* The next event; false at the end of what can be read. */
static bool advance(struct reader *r) {
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

/* Leaves the node that begins with the present event: afterwards its last event is the present one. */
static void skip(struct reader *r) {
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
            cli_config_problem(r->c, here(r), "nested more than %d deep", DEPTH_MAX);
            r->rc = HT_EINVAL;
        }
    } while (depth > 0 && advance(r));
}

static const char *kind_of(const struct reader *r) {
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

/* Anchors and tags have no use here; a file that holds them means something else by them. */
static void refuse_extras(struct reader *r) {
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
        cli_config_problem(r->c, here(r), "anchors (&%s) are not taken; write the value out", (const char *)anchor);
    if (tag)
        cli_config_problem(r->c, here(r), "tags (%s) are not taken; write the value alone", (const char *)tag);
}

/*
 * ${NAME} gives way to what the environment says, ${NAME:-text} to the text when that is nothing, $${ stands for ${.
 * False: it was said what is wrong, or r->rc is set. Values are never shown: they may be secrets.
 */
static bool expand(struct reader *r, const char *what, const char *text, size_t n, struct ht_buf *out) {
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
            cli_config_problem(r->c, here(r), "%s: a variable is written ${NAME} or ${NAME:-text}, and ${ itself $${",
                               what);
            return false;
        }
        snprintf(name, sizeof name, "%.*s", (int)name_len, at + 2);
        const char *value = getenv(name);
        if (value && *value) {
            r->rc = ht_buf_append(out, value, strlen(value));
        } else if (has_default) {
            r->rc = ht_buf_append(out, rest + 2, (size_t)(close - rest) - 2);
        } else {
            cli_config_problem(r->c, here(r),
                               "%s: the variable %s is not set; ${%s:-text} says what stands for it then", what, name,
                               name);
            return false;
        }
        text = close + 1;
    }
    return r->rc == HT_OK;
}

/* The same text, kept, with its variables filled in. NULL as take_scalar(). */
static const char *keep_expanded(struct reader *r, const char *what, const char *text, size_t n) {
    struct ht_buf b = {0};
    const char *kept = NULL;
    if (!memmem(text, n, "${", 2))
        kept = cli_config_keep(r->c, text, n);
    else if (expand(r, what, text, n, &b))
        kept = cli_config_keep(r->c, b.data ? (const char *)ht_buf_head(&b) : "", ht_buf_size(&b));
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

/*
 * The scalar that the present event is, kept. NULL with r->rc set: no memory. NULL otherwise: it is none, or holds
 * nothing, and that was said; the node was skipped. `what` is the key it belongs to. `as_it_is`: with its variables.
 */
static const char *take_text(struct reader *r, const char *what, const char *example, bool as_it_is) {
    refuse_extras(r);
    if (r->event.type != YAML_SCALAR_EVENT) {
        cli_config_problem(r->c, here(r), "%s: one value is expected here and not %s, as in %s", what, kind_of(r),
                           example);
        skip(r);
        return NULL;
    }
    const char *text = (const char *)r->event.data.scalar.value;
    size_t n = r->event.data.scalar.length;
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (n == 0 || (plain && (strcmp(text, "~") == 0 || strcmp(text, "null") == 0))) {
        cli_config_problem(r->c, here(r), "%s has no value; leave it out, or write one such as %s", what, example);
        return NULL;
    }
    if (memchr(text, '\0', n)) {
        cli_config_problem(r->c, here(r), "%s: a NUL is in it", what);
        return NULL;
    }
    if (!as_it_is)
        return keep_expanded(r, what, text, n);
    const char *kept = cli_config_keep(r->c, text, n);
    if (!kept)
        r->rc = HT_ENOMEM;
    return kept;
}

static const char *take_scalar(struct reader *r, const char *what, const char *example) {
    return take_text(r, what, example, false);
}

/* ---- mappings ---- */

/* What has been seen of one mapping. */
struct seen {
    struct cli_mark at[64]; /* by key; line 0: not yet */
};

static void complain_unknown(struct reader *r, const struct opt_mapping *m, struct cli_mark at, const char *name,
                             const char *near) {
    char all[256];
    size_t n = 0;
    if (near) {
        cli_config_problem(r->c, at, "unknown key %s; did you mean %s?", name, near);
        return;
    }
    for (size_t i = 0; i < m->n_keys && n < sizeof all; i++)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", m->keys[i].name);
    cli_config_problem(r->c, at, "unknown key %s; what may stand here is %s", name, all);
}

/* The mapping's next key: true with *key (NULL: not one of ours, the value was skipped) and the value's event present.
 */
static bool next_key(struct reader *r, enum opt_mapping_id id, struct seen *seen, const struct opt_key **key) {
    const struct opt_mapping *m = &opt_mappings[id];
    const char *near = NULL;
    if (!advance(r) || r->event.type == YAML_MAPPING_END_EVENT)
        return false;
    struct cli_mark at = here(r);
    *key = NULL;
    char name[80] = "";
    refuse_extras(r);
    bool word = r->event.type == YAML_SCALAR_EVENT;
    if (word) {
        snprintf(name, sizeof name, "%s", (const char *)r->event.data.scalar.value);
        *key = opt_mapping_find(m, name, &near);
    } else {
        cli_config_problem(r->c, at, "a key is a word and not %s", kind_of(r));
        skip(r);
    }
    size_t i = *key ? (size_t)(*key - m->keys) : 0;
    if (word && !*key)
        complain_unknown(r, m, at, name, near);
    else if (*key && seen->at[i].line > 0)
        cli_config_problem(r->c, at, "%s is given twice, first on line %u; leave one of them out", name,
                           seen->at[i].line);
    if (!advance(r))
        return false;
    if (!*key || seen->at[i].line > 0) {
        skip(r);
        *key = NULL;
    } else {
        seen->at[i] = at;
    }
    return true;
}

static void require_keys(struct reader *r, enum opt_mapping_id id, const struct seen *seen, struct cli_mark at) {
    const struct opt_mapping *m = &opt_mappings[id];
    for (size_t i = 0; i < m->n_keys; i++)
        if (m->keys[i].required && seen->at[i].line == 0)
            cli_config_problem(r->c, at, "%s is missing, as in %s: %s", m->keys[i].name, m->keys[i].name,
                               m->keys[i].example);
}

static void set_value(struct reader *r, enum opt_mapping_id id, void *out, const struct opt_key *key) {
    struct cli_mark at = here(r);
    struct ht_errmsg err;
    const char *text = take_scalar(r, key->name, key->example);
    int rc = text ? opt_mapping_set(&opt_mappings[id], out, key, text, &err) : HT_OK;
    if (rc == HT_ENOMEM)
        r->rc = rc;
    else if (rc < 0)
        cli_config_problem(r->c, at, "%s", err.text);
}

static bool has_children(struct reader *r, const struct opt_key *key, yaml_event_type_t type, const char *wanted) {
    if (r->event.type == type) {
        refuse_extras(r);
        return true;
    }
    cli_config_problem(r->c, here(r), "%s: %s expected here and not %s, as in %s", key->name, wanted, kind_of(r),
                       key->example);
    skip(r);
    return false;
}

/* The fields that requests get. What is ${..} in a value is read when it is needed. */
static void add_field(struct cli_config_policy *p, const char *name, struct cli_mark at, const char *value) {
    if (!name || !value || p->n_names == HT_ARRAY_LEN(p->names))
        return;
    p->name_at[p->n_names] = at;
    p->names[p->n_names] = name;
    p->values[p->n_names++] = value;
}

/* A mapping with free keys: the headers, or with `p` the fields that requests get. */
static void read_texts(struct reader *r, const struct opt_key *key, struct cli_config_policy *p) {
    unsigned n = 0;
    if (!has_children(r, key, YAML_MAPPING_START_EVENT, "names, each with a text, are"))
        return;
    while (advance(r) && r->event.type != YAML_MAPPING_END_EVENT) {
        struct cli_mark name_at = here(r);
        const char *name = take_scalar(r, key->name, key->example);
        if (!advance(r))
            return;
        struct cli_mark value_at = here(r);
        const char *value = take_text(r, name ? name : key->name, key->example, p != NULL);
        if (++n > key->max)
            cli_config_problem(r->c, name_at, "%s: more than %u are too many", key->name, key->max);
        else if (p)
            add_field(p, name, name_at, value);
        else if (name && value && r->rc == HT_OK)
            r->rc = cli_config_header(r->c, name, name_at, value, value_at);
        if (r->rc < 0)
            return;
    }
}

static void read_rules(struct reader *r, const struct opt_key *key, struct cli_config_rules *to) {
    unsigned n = 0;
    if (!has_children(r, key, YAML_SEQUENCE_START_EVENT, "a list is"))
        return;
    while (advance(r) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        struct cli_mark at = here(r);
        const char *text = take_scalar(r, key->name, key->example);
        if (++n > key->max) {
            cli_config_problem(r->c, at, "%s: more than %u are too many", key->name, key->max);
        } else if (text && to->n < HT_ARRAY_LEN(to->texts)) {
            to->at[to->n] = at;
            to->texts[to->n++] = text;
        }
    }
}

/* A key of what an item of reach says of its requests. True: it has no single value, and was read. */
static bool read_policy(struct reader *r, const struct opt_key *key, struct cli_config_policy **policy) {
    struct cli_mark at = here(r);
    int id = (int)(key - opt_mappings[OPT_MAP_REACH].keys);
    if (id < OPT_CONFIG_REACH_KEY_INJECT)
        return false;
    if (!*policy && !(*policy = cli_config_policy_add(r->c))) {
        r->rc = HT_ENOMEM;
        return true;
    }
    struct cli_config_policy *p = *policy;
    switch (id) {
    case OPT_CONFIG_REACH_KEY_INJECT:
        read_texts(r, key, p);
        return true;
    case OPT_CONFIG_REACH_KEY_ALLOW:
        read_rules(r, key, &p->allow);
        return true;
    case OPT_CONFIG_REACH_KEY_DENY:
        read_rules(r, key, &p->deny);
        return true;
    case OPT_CONFIG_REACH_KEY_USER:
        p->user_at = at;
        break;
    case OPT_CONFIG_REACH_KEY_REPLACE:
        p->replace_at = at;
        break;
    default:
        p->rate_at = at;
        break;
    }
    return false;
}

/* A binding: its mapping began with the present event. */
static void read_binding(struct reader *r, enum opt_mapping_id id) {
    union {
        struct opt_config_expose expose;
        struct opt_config_pull pull;
        struct opt_config_reach reach;
    } item;
    struct cli_config_binding where = {.at = here(r)};
    struct cli_config_policy *policy = NULL;
    const struct opt_key *keys = opt_mappings[id].keys;
    const struct opt_key *target = &keys[id == OPT_MAP_PULL    ? (int)OPT_CONFIG_PULL_KEY_TARGET
                                         : id == OPT_MAP_REACH ? (int)OPT_CONFIG_REACH_KEY_TARGET
                                                               : (int)OPT_CONFIG_EXPOSE_KEY_TARGET];
    const struct opt_key *port = &keys[id == OPT_MAP_PULL    ? (int)OPT_CONFIG_PULL_KEY_PORT
                                       : id == OPT_MAP_REACH ? (int)OPT_CONFIG_REACH_KEY_NAME
                                                             : (int)OPT_CONFIG_EXPOSE_KEY_PORT];
    struct seen seen = {0};
    const struct opt_key *key;
    refuse_extras(r);
    if (opt_mapping_defaults(&opt_mappings[id], &item) < 0) {
        r->rc = HT_ENOMEM;
        return;
    }
    where.target_at = where.port_at = where.at;
    while (next_key(r, id, &seen, &key)) {
        if (!key)
            continue;
        if (key == target)
            where.target_at = here(r);
        else if (key == port)
            where.port_at = here(r);
        if (id != OPT_MAP_REACH || !read_policy(r, key, &policy))
            set_value(r, id, &item, key);
    }
    if (r->rc < 0)
        return;
    require_keys(r, id, &seen, where.at);
    where.policy = policy;
    if (policy)
        r->rc = cli_config_policy_check(r->c, &item.reach, policy, &where);
    if (r->rc == HT_OK)
        r->rc = cli_config_bind(r->c, id, &item, &where);
}

static void read_list(struct reader *r, const struct opt_key *key) {
    unsigned n = 0;
    if (!has_children(r, key, YAML_SEQUENCE_START_EVENT, "a list is"))
        return;
    while (advance(r) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        struct cli_mark at = here(r);
        if (++n > key->max) {
            cli_config_problem(r->c, at, "%s: more than %u are too many", key->name, key->max);
            skip(r);
        } else if (r->event.type == YAML_MAPPING_START_EVENT) {
            read_binding(r, key->of);
        } else {
            const char *text = take_scalar(r, key->name, key->example);
            if (text)
                r->rc = cli_config_bind_text(r->c, key->of, text, at);
        }
    }
}

/* Where a value is that is checked later. */
static void note_place(struct reader *r, const struct opt_key *key) {
    switch (key - opt_mappings[OPT_MAP_CONFIG].keys) {
    case OPT_CONFIG_KEY_URL:
        r->c->url_at = here(r);
        break;
    case OPT_CONFIG_KEY_TOKEN_FILE:
        r->c->token_file_at = here(r);
        break;
    case OPT_CONFIG_KEY_CA:
        r->c->ca_at = here(r);
        break;
    default:
        break;
    }
}

static void read_top(struct reader *r) {
    struct seen seen = {0};
    const struct opt_key *key;
    struct cli_mark at = here(r);
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        cli_config_problem(r->c, at, "keys and values are expected here and not %s, as in url: wss://kit.example",
                           kind_of(r));
        skip(r);
        return;
    }
    refuse_extras(r);
    while (next_key(r, OPT_MAP_CONFIG, &seen, &key)) {
        if (!key)
            continue;
        note_place(r, key);
        if (key->kind == OPT_KEY_TEXTS)
            read_texts(r, key, NULL);
        else if (key->kind == OPT_KEY_LIST)
            read_list(r, key);
        else
            set_value(r, OPT_MAP_CONFIG, &r->c->top, key);
    }
    if (r->rc == HT_OK)
        require_keys(r, OPT_MAP_CONFIG, &seen, at);
}

static void read_stream(struct reader *r) {
    unsigned documents = 0;
    while (advance(r)) {
        switch (r->event.type) {
        case YAML_STREAM_END_EVENT:
            if (documents == 0)
                cli_config_problem(r->c, (struct cli_mark){1, 1},
                                   "the file is empty; name at least one binding under expose, pull or reach");
            return;
        case YAML_DOCUMENT_START_EVENT:
            if (documents++ > 0) {
                cli_config_problem(r->c, here(r), "a second document begins here; one is all that is read");
                return;
            }
            if (advance(r))
                read_top(r);
            break;
        default:
            break;
        }
    }
}

int cli_config_parse(struct cli_config *c, const char *name, const char *text, size_t n) {
    struct reader r = {.c = c};
    *c = (struct cli_config){.name = name};
    int rc = opt_mapping_defaults(&opt_mappings[OPT_MAP_CONFIG], &c->top);
    if (rc < 0)
        return rc;
    if (n > CLI_CONFIG_MAX) {
        cli_config_problem(c, (struct cli_mark){1, 1}, "the file is larger than %u bytes", CLI_CONFIG_MAX);
        return HT_EINVAL;
    }
    if (n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        cli_config_problem(c, (struct cli_mark){1, 1}, "the file is UTF-16; save it as UTF-8");
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
    read_stream(&r);
    if (r.has_event)
        yaml_event_delete(&r.event);
    yaml_parser_delete(&r.yaml);
    if (r.rc == HT_OK)
        r.rc = cli_config_finish(c);
    return r.rc == HT_ENOMEM ? r.rc : c->n_problems > 0 ? HT_EINVAL : r.rc;
}

int cli_config_load(struct cli_config *c, const char *name, struct ht_errmsg *err) {
    bool standard_input = strcmp(name, "-") == 0;
    struct ht_buf text = {0};
    ssize_t got = 0;
    *c = (struct cli_config){.name = name};
    int fd = standard_input ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "%s cannot be opened: %s; -f names another file", name, strerror(errno));
    int rc = HT_OK;
    do {
        uint8_t *to = ht_buf_reserve(&text, 65536);
        got = to ? read(fd, to, 65536) : -1;
        if (!to)
            rc = ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
        else if (got < 0 && errno != EINTR)
            rc = ht_fail(err, HT_EIO, "%s cannot be read: %s", name, strerror(errno));
        else if (got > 0)
            ht_buf_commit(&text, (size_t)got);
    } while (rc == HT_OK && got != 0 && ht_buf_size(&text) <= CLI_CONFIG_MAX);
    if (!standard_input)
        close(fd);
    if (rc == HT_OK)
        rc = cli_config_parse(c, standard_input ? "standard input" : name,
                              text.data ? (const char *)ht_buf_head(&text) : "", ht_buf_size(&text));
    if (text.data)
        explicit_bzero(text.data, text.cap); /* headers may be secret */
    ht_buf_free(&text);
    return rc;
}

void cli_config_free(struct cli_config *c) {
    for (size_t i = 0; i < c->n_texts; i++) {
        explicit_bzero(c->texts[i], strlen(c->texts[i]));
        ht_free(c->texts[i]);
    }
    for (size_t i = 0; i < c->n_problems; i++)
        ht_free(c->problems[i].text);
    ht_free(c->texts);
    ht_free(c->problems);
    ht_free(c->bindings);
    cli_config_policies_free(c);
    ht_free(c->headers);
    ht_free(c->header_marks);
    *c = (struct cli_config){.name = NULL};
}
