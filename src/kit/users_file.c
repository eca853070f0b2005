/* Reads the file of --users. Its keys and their meaning are in spec/users.yaml. */
#include "kit/users_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "opt/yaml.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXTS_MAX 64 /* most texts of one list */

/* The state of reading. The callbacks of opt_yaml get `file`, and find the rest by reading_of(). */
struct reading {
    struct opt_file file;
    struct users_file *out;
    size_t cap;          /* users that out->users and `at` have memory for */
    struct opt_mark *at; /* where each user's name stands in the file */
};

static struct reading *reading_of(const struct opt_yaml *r) { return ht_container_of(r->file, struct reading, file); }

/* ---- values ---- */

bool kit_user_name_good(const char *name) {
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-");
    return n > 0 && n <= KIT_USER_NAME && name[n] == '\0';
}

static bool read_digest(const char *text, uint8_t out[KIT_DIGEST]) {
    static const char kind[] = "sha256:";
    if (strncmp(text, kind, sizeof kind - 1) != 0 || strlen(text) != sizeof kind - 1 + 2 * (size_t)KIT_DIGEST)
        return false;
    text += sizeof kind - 1;
    for (size_t i = 0; i < KIT_DIGEST; i++, text += 2) {
        if (ht_hex_digit(text[0]) < 0 || ht_hex_digit(text[1]) < 0)
            return false;
        out[i] = (uint8_t)(ht_hex_digit(text[0]) * 16 + ht_hex_digit(text[1]));
    }
    return true;
}

/* The port whose digits end at `end`; 0: it is no port. */
static unsigned read_port(const char *p, const char *end) {
    unsigned n = 0;
    if (p == end || end - p > 5 || *p == '0')
        return 0;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return 0;
        n = n * 10 + (unsigned)(*p - '0');
    }
    return n <= 65535 ? n : 0;
}

static bool read_range(const char *text, struct opt_port_range *out) {
    const char *end = text + strlen(text), *dash = strchr(text, '-');
    unsigned first = read_port(text, dash ? dash : end), last = dash ? read_port(dash + 1, end) : first;
    *out = (struct opt_port_range){(uint16_t)first, (uint16_t)last};
    return first > 0 && first <= last;
}

/* A pattern has labels of letters, digits, hyphens and *, and dots between them. More than two * would make matching
 * slow. */
static bool good_pattern(const char *text) {
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.*"), stars = 0;
    for (const char *p = text; (p = strchr(p, '*')); p++)
        stars++;
    return n > 0 && stars <= 2 && n <= 253 && text[n] == '\0' && text[0] != '.' && text[n - 1] != '.' &&
           !strstr(text, "..");
}

/* ---- lists of texts ---- */

struct texts {
    const char *text[TEXTS_MAX];
    struct opt_mark at[TEXTS_MAX];
    size_t n;
};

static void read_texts(struct opt_yaml *r, const struct opt_key *key, struct texts *out) {
    *out = (struct texts){.n = 0};
    if (!opt_yaml_has(r, key, YAML_SEQUENCE_START_EVENT, "a list is"))
        return;
    for (unsigned n = 0; opt_yaml_next(r) && r->event.type != YAML_SEQUENCE_END_EVENT;) {
        struct opt_mark at = opt_yaml_here(r);
        const char *text = opt_yaml_text(r, key->name, key->example, true);
        if (++n > key->max || out->n == TEXTS_MAX) {
            opt_file_problem(r->file, at, "%s: more than %u are too many", key->name, key->max);
        } else if (text) {
            out->at[out->n] = at;
            out->text[out->n++] = text;
        }
    }
}

/* A wrong text may be a token itself, a secret, so the message does not repeat it. */
static void read_tokens(struct opt_yaml *r, const struct opt_key *key, struct users_entry *u) {
    struct texts t;
    read_texts(r, key, &t);
    u->digests = ht_calloc(t.n + 1, sizeof u->digests[0]);
    if (!u->digests) {
        r->rc = HT_ENOMEM;
        return;
    }
    for (size_t i = 0; i < t.n; i++)
        if (read_digest(t.text[i], u->digests[u->n_digests]))
            u->n_digests++;
        else
            opt_file_problem(r->file, t.at[i],
                             "tokens: sha256: and 64 hexadecimal digits are expected here, as `hoody-tunnel token new` "
                             "prints them; a token itself does not belong in this file");
}

static void read_ports(struct opt_yaml *r, const struct opt_key *key, struct kit_allowance *may) {
    struct texts t;
    read_texts(r, key, &t);
    may->ports_given = true;
    may->ports = ht_calloc(t.n + 1, sizeof may->ports[0]);
    if (!may->ports) {
        r->rc = HT_ENOMEM;
        return;
    }
    for (size_t i = 0; i < t.n; i++)
        if (read_range(t.text[i], &may->ports[may->n_ports]))
            may->n_ports++;
        else
            opt_file_problem(r->file, t.at[i], "ports: \"%s\" is no port or range, such as 8080 or 3000-3999",
                             t.text[i]);
}

static void read_names(struct opt_yaml *r, const struct opt_key *key, struct kit_allowance *may) {
    struct texts t;
    read_texts(r, key, &t);
    may->names_given = true;
    may->names = ht_calloc(t.n + 1, sizeof may->names[0]);
    for (size_t i = 0; may->names && i < t.n; i++) {
        if (!good_pattern(t.text[i])) {
            opt_file_problem(
                r->file, t.at[i],
                "names: \"%s\" is no name; lower-case letters, digits, hyphens and * are expected, with dots "
                "between labels, such as bob-* or app.bob.example",
                t.text[i]);
            continue;
        }
        char *copy = ht_strndup(t.text[i], strlen(t.text[i]));
        if (!copy)
            break;
        may->names[may->n_names++] = copy;
    }
    if (!may->names)
        r->rc = HT_ENOMEM;
}

static void read_modes(struct opt_yaml *r, const struct opt_key *key, struct kit_allowance *may) {
    static const char *const words[] = {"expose", "pull", "reach"};
    struct texts t;
    read_texts(r, key, &t);
    may->modes = 0;
    for (size_t i = 0; i < t.n; i++) {
        size_t m = 0;
        while (m < HT_ARRAY_LEN(words) && strcmp(t.text[i], words[m]) != 0)
            m++;
        if (m < HT_ARRAY_LEN(words))
            may->modes |= 1u << m;
        else
            opt_file_problem(r->file, t.at[i], "modes: \"%s\" is no mode; there are expose, pull and reach", t.text[i]);
    }
}

/* ---- users ---- */

/* Reads a key whose value is a list. False: the key has a single value. */
static bool read_list(struct opt_yaml *r, const struct opt_key *key, struct users_entry *u) {
    switch (key - opt_mappings[OPT_MAP_USER].keys) {
    case OPT_USERS_USER_KEY_TOKENS:
        read_tokens(r, key, u);
        return true;
    case OPT_USERS_USER_KEY_PORTS:
        read_ports(r, key, &u->may);
        return true;
    case OPT_USERS_USER_KEY_NAMES:
        read_names(r, key, &u->may);
        return true;
    case OPT_USERS_USER_KEY_MODES:
        read_modes(r, key, &u->may);
        return true;
    default:
        return false;
    }
}

static void entry_free(struct users_entry *u) {
    users_allowance_free(&u->may);
    ht_free(u->digests);
}

static void read_user(struct opt_yaml *r) {
    struct reading *rd = reading_of(r);
    struct opt_users_user item;
    struct users_entry u = {.may = {.modes = KIT_MODES_ALL}};
    struct opt_seen seen = {0};
    struct opt_mark at = opt_yaml_here(r), name_at = at;
    const struct opt_key *key;
    if (opt_mapping_defaults(&opt_mappings[OPT_MAP_USER], &item) < 0) {
        r->rc = HT_ENOMEM;
        return;
    }
    opt_yaml_refuse_extras(r);
    while (r->rc == HT_OK && opt_yaml_next_key(r, OPT_MAP_USER, &seen, &key)) {
        if (!key)
            continue;
        if (key == &opt_mappings[OPT_MAP_USER].keys[OPT_USERS_USER_KEY_NAME])
            name_at = opt_yaml_here(r);
        if (!read_list(r, key, &u))
            opt_yaml_set(r, OPT_MAP_USER, &item, key);
    }
    if (r->rc == HT_OK)
        opt_yaml_require(r, OPT_MAP_USER, &seen, at);
    if (item.name && kit_user_name_good(item.name))
        snprintf(u.name, sizeof u.name, "%s", item.name);
    else if (item.name)
        opt_file_problem(r->file, name_at, "name: \"%s\" is no name; 1 to %d letters, digits, or . _ @ - are expected",
                         item.name, KIT_USER_NAME);
    u.admin = item.admin;
    u.may.max_sessions = item.set_max_sessions ? (unsigned)item.max_sessions : 0;
    u.may.max_bindings = item.set_max_bindings ? (unsigned)item.max_bindings : 0;
    u.may.max_streams = item.set_max_streams ? (unsigned)item.max_streams : 0;
    u.may.rate = item.set_rate ? item.rate : 0;
    if (rd->out->n == rd->cap) {
        size_t cap = rd->cap ? 2 * rd->cap : 16;
        void *users = ht_realloc(rd->out->users, cap * sizeof rd->out->users[0]);
        rd->out->users = users ? users : rd->out->users;
        void *marks = users ? ht_realloc(rd->at, cap * sizeof rd->at[0]) : NULL;
        rd->at = marks ? marks : rd->at;
        if (!marks) {
            r->rc = HT_ENOMEM;
            entry_free(&u);
            return;
        }
        rd->cap = cap;
    }
    rd->at[rd->out->n] = name_at;
    rd->out->users[rd->out->n++] = u;
}

static void read_users(struct opt_yaml *r, const struct opt_key *key) {
    unsigned n = 0;
    if (!opt_yaml_has(r, key, YAML_SEQUENCE_START_EVENT, "a list is"))
        return;
    while (r->rc == HT_OK && opt_yaml_next(r) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        if (++n > key->max) {
            opt_file_problem(r->file, opt_yaml_here(r), "%s: more than %u are too many", key->name, key->max);
            opt_yaml_skip(r);
        } else if (r->event.type == YAML_MAPPING_START_EVENT) {
            read_user(r);
        } else {
            opt_file_problem(r->file, opt_yaml_here(r), "a user is keys and values and not %s, as in %s",
                             opt_yaml_kind(r), key->example);
            opt_yaml_skip(r);
        }
    }
}

static void read_top(struct opt_yaml *r) {
    struct opt_seen seen = {0};
    const struct opt_key *key;
    struct opt_mark at = opt_yaml_here(r);
    r->as_it_is = true;
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        opt_file_problem(r->file, at,
                         "keys and values are expected here and not %s; the file begins with users:", opt_yaml_kind(r));
        opt_yaml_skip(r);
        return;
    }
    opt_yaml_refuse_extras(r);
    while (r->rc == HT_OK && opt_yaml_next_key(r, OPT_MAP_USERS, &seen, &key))
        if (key)
            read_users(r, key);
    if (r->rc == HT_OK)
        opt_yaml_require(r, OPT_MAP_USERS, &seen, at);
}

/* ---- names and tokens that occur twice ---- */

/* A name or a digest of the file, and whose it is. */
struct claim {
    const void *key;
    size_t user; /* index in users_file.users */
};

static int by_name(const void *a, const void *b) {
    const struct claim *x = a, *y = b;
    int c = strcmp(x->key, y->key);
    return c ? c : x->user < y->user ? -1 : x->user > y->user;
}

static int by_digest(const void *a, const void *b) {
    const struct claim *x = a, *y = b;
    int c = memcmp(x->key, y->key, KIT_DIGEST);
    return c ? c : x->user < y->user ? -1 : x->user > y->user;
}

static int check_claims(struct reading *rd) {
    const struct users_file *f = rd->out;
    size_t n = 0, digests = 0;
    for (size_t i = 0; i < f->n; i++)
        digests += f->users[i].n_digests;
    struct claim *all = ht_calloc(ht_max(f->n, digests) + 1, sizeof *all);
    if (!all)
        return HT_ENOMEM;
    for (size_t i = 0; i < f->n; i++)
        all[n++] = (struct claim){f->users[i].name, i};
    qsort(all, n, sizeof *all, by_name);
    for (size_t i = 1; i < n; i++)
        if (f->users[all[i].user].name[0] && strcmp(all[i].key, all[i - 1].key) == 0)
            opt_file_problem(&rd->file, rd->at[all[i].user], "there are two users called %s; the first is on line %u",
                             f->users[all[i].user].name, rd->at[all[i - 1].user].line);
    n = 0;
    for (size_t i = 0; i < f->n; i++)
        for (size_t j = 0; j < f->users[i].n_digests; j++)
            all[n++] = (struct claim){f->users[i].digests[j], i};
    qsort(all, n, sizeof *all, by_digest);
    for (size_t i = 1; i < n; i++)
        if (memcmp(all[i].key, all[i - 1].key, KIT_DIGEST) == 0)
            opt_file_problem(&rd->file, rd->at[all[i].user],
                             "a token of %s occurs twice, first with %s; a token belongs to one user only",
                             f->users[all[i].user].name, f->users[all[i - 1].user].name);
    ht_free(all);
    return HT_OK;
}

static int users_by_name(const void *a, const void *b) {
    return strcmp(((const struct users_entry *)a)->name, ((const struct users_entry *)b)->name);
}

/* ---- all of it ---- */

static int complain(const struct opt_file *file, struct ht_errmsg *err) {
    const struct opt_problem *first = file->problems;
    for (size_t i = 1; i < file->n_problems; i++)
        ht_error("kit", "%s:%u:%u: %s", file->name, file->problems[i].at.line, file->problems[i].at.column,
                 file->problems[i].text);
    size_t more = file->n_problems - 1 + file->n_more;
    if (more)
        return ht_fail(err, HT_EINVAL, "%s:%u:%u: %s (and %zu more)", file->name, first->at.line, first->at.column,
                       first->text, more);
    return ht_fail(err, HT_EINVAL, "%s:%u:%u: %s", file->name, first->at.line, first->at.column, first->text);
}

int users_file_parse(struct users_file *out, const char *name, const char *text, size_t n, struct ht_errmsg *err) {
    struct reading rd = {.file = {.name = name}, .out = out};
    *out = (struct users_file){.n = 0};
    int rc = opt_yaml_read(&rd.file, text, n, read_top, "the file is empty; it begins with users:");
    if (rc == HT_OK)
        rc = check_claims(&rd);
    if (rc == HT_OK && rd.file.n_problems == 0 && out->n == 0)
        opt_file_problem(&rd.file, (struct opt_mark){1, 1}, "there is no user in the file, so nobody could connect");
    if (rc != HT_ENOMEM && rd.file.n_problems > 0)
        rc = complain(&rd.file, err);
    else if (rc != HT_OK)
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc == HT_OK)
        qsort(out->users, out->n, sizeof out->users[0], users_by_name);
    ht_free(rd.at);
    opt_file_free(&rd.file);
    return rc;
}

void users_allowance_free(struct kit_allowance *a) {
    for (size_t i = 0; i < a->n_names; i++)
        ht_free(a->names[i]);
    ht_free(a->names);
    ht_free(a->ports);
    *a = (struct kit_allowance){.modes = 0};
}

void users_file_free(struct users_file *f) {
    for (size_t i = 0; i < f->n; i++)
        entry_free(&f->users[i]);
    ht_free(f->users);
    *f = (struct users_file){.n = 0};
}
