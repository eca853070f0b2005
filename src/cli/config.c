#include "cli/config.h"

#include "base/mem.h"
#include "opt/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct cli_config *config_of(const struct opt_yaml *r) {
    return ht_container_of(r->file, struct cli_config, file);
}

void cli_config_print_problems(const struct cli_config *c, FILE *to) { opt_file_print(&c->file, to); }

char *cli_config_keep(struct cli_config *c, const char *text, size_t n) { return opt_file_keep(&c->file, text, n); }

static const char *take_scalar(struct opt_yaml *r, const char *what, const char *example) {
    return opt_yaml_text(r, what, example, false);
}

/* Adds a header field for requests. ${...} in its value is not replaced here, but when a request needs it. */
static void add_field(struct cli_config_policy *p, const char *name, struct opt_mark at, const char *value) {
    if (!name || !value || p->n_names == HT_ARRAY_LEN(p->names))
        return;
    p->name_at[p->n_names] = at;
    p->names[p->n_names] = name;
    p->values[p->n_names++] = value;
}

/* Reads a mapping whose keys are names: `headers`, or `inject` of the policy `p` if that is not NULL. */
static void read_texts(struct opt_yaml *r, const struct opt_key *key, struct cli_config_policy *p) {
    unsigned n = 0;
    if (!opt_yaml_has(r, key, YAML_MAPPING_START_EVENT, "names, each with a text, are"))
        return;
    while (opt_yaml_next(r) && r->event.type != YAML_MAPPING_END_EVENT) {
        struct opt_mark name_at = opt_yaml_here(r);
        const char *name = take_scalar(r, key->name, key->example);
        if (!opt_yaml_next(r))
            return;
        struct opt_mark value_at = opt_yaml_here(r);
        const char *value = opt_yaml_text(r, name ? name : key->name, key->example, p != NULL);
        if (++n > key->max)
            cli_config_problem(config_of(r), name_at, "%s: more than %u are too many", key->name, key->max);
        else if (p)
            add_field(p, name, name_at, value);
        else if (name && value && r->rc == HT_OK)
            r->rc = cli_config_header(config_of(r), name, name_at, value, value_at);
        if (r->rc < 0)
            return;
    }
}

static void read_rules(struct opt_yaml *r, const struct opt_key *key, struct cli_config_rules *to) {
    unsigned n = 0;
    if (!opt_yaml_has(r, key, YAML_SEQUENCE_START_EVENT, "a list is"))
        return;
    while (opt_yaml_next(r) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        struct opt_mark at = opt_yaml_here(r);
        const char *text = take_scalar(r, key->name, key->example);
        if (++n > key->max) {
            cli_config_problem(config_of(r), at, "%s: more than %u are too many", key->name, key->max);
        } else if (text && to->n < HT_ARRAY_LEN(to->texts)) {
            to->at[to->n] = at;
            to->texts[to->n++] = text;
        }
    }
}

/* Reads a key of an item of `reach` that belongs to its policy and has no single value. False: it is another key. */
static bool read_policy(struct opt_yaml *r, const struct opt_key *key, struct cli_config_policy **policy) {
    struct opt_mark at = opt_yaml_here(r);
    int id = (int)(key - opt_mappings[OPT_MAP_REACH].keys);
    if (id < OPT_CONFIG_REACH_KEY_INJECT)
        return false;
    if (!*policy && !(*policy = cli_config_policy_add(config_of(r)))) {
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

/* Reads a list of an item of `expose`. False: it is another key. */
static bool read_gate(struct opt_yaml *r, const struct opt_key *key, struct cli_config_gate *gate) {
    int id = (int)(key - opt_mappings[OPT_MAP_EXPOSE].keys) - OPT_CONFIG_EXPOSE_KEY_TRUSTED_EDGE;
    if (id < 0 || id >= CLI_GATE_LISTS)
        return false;
    read_rules(r, key, &gate->lists[id]);
    return true;
}

/* Reads a binding, whose mapping begins with the present event. */
static void read_binding(struct opt_yaml *r, enum opt_mapping_id id) {
    union {
        struct opt_config_expose expose;
        struct opt_config_pull pull;
        struct opt_config_reach reach;
    } item;
    struct cli_config_binding where = {.at = opt_yaml_here(r)};
    struct cli_config_policy *policy = NULL;
    struct cli_config_gate *gate = NULL;
    const struct opt_key *keys = opt_mappings[id].keys;
    const struct opt_key *target = &keys[id == OPT_MAP_PULL    ? (int)OPT_CONFIG_PULL_KEY_TARGET
                                         : id == OPT_MAP_REACH ? (int)OPT_CONFIG_REACH_KEY_TARGET
                                                               : (int)OPT_CONFIG_EXPOSE_KEY_TARGET];
    const struct opt_key *port = &keys[id == OPT_MAP_PULL    ? (int)OPT_CONFIG_PULL_KEY_PORT
                                       : id == OPT_MAP_REACH ? (int)OPT_CONFIG_REACH_KEY_NAME
                                                             : (int)OPT_CONFIG_EXPOSE_KEY_PORT];
    struct opt_seen seen = {0};
    const struct opt_key *key;
    opt_yaml_refuse_extras(r);
    if (opt_mapping_defaults(&opt_mappings[id], &item) < 0 ||
        (id == OPT_MAP_EXPOSE && !(gate = cli_config_gate_add(config_of(r))))) {
        r->rc = HT_ENOMEM;
        return;
    }
    where.target_at = where.port_at = where.at;
    while (opt_yaml_next_key(r, id, &seen, &key)) {
        if (!key)
            continue;
        if (key == target)
            where.target_at = opt_yaml_here(r);
        else if (key == port)
            where.port_at = opt_yaml_here(r);
        if ((id != OPT_MAP_REACH || !read_policy(r, key, &policy)) && (!gate || !read_gate(r, key, gate)))
            opt_yaml_set(r, id, &item, key);
    }
    if (r->rc < 0)
        return;
    opt_yaml_require(r, id, &seen, where.at);
    where.policy = policy;
    where.gate = gate;
    if (gate)
        r->rc = cli_config_gate_set(config_of(r), &item.expose, gate);
    if (policy && r->rc == HT_OK)
        r->rc = cli_config_policy_check(config_of(r), &item.reach, policy, &where);
    if (r->rc == HT_OK)
        r->rc = cli_config_bind(config_of(r), id, &item, &where);
}

static void read_list(struct opt_yaml *r, const struct opt_key *key) {
    unsigned n = 0;
    if (!opt_yaml_has(r, key, YAML_SEQUENCE_START_EVENT, "a list is"))
        return;
    while (opt_yaml_next(r) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        struct opt_mark at = opt_yaml_here(r);
        if (++n > key->max) {
            cli_config_problem(config_of(r), at, "%s: more than %u are too many", key->name, key->max);
            opt_yaml_skip(r);
        } else if (r->event.type == YAML_MAPPING_START_EVENT) {
            read_binding(r, key->of);
        } else {
            const char *text = take_scalar(r, key->name, key->example);
            if (text)
                r->rc = cli_config_bind_text(config_of(r), key->of, text, at);
        }
    }
}

/* Stores the place of a value that is checked later. */
static void note_place(struct opt_yaml *r, const struct opt_key *key) {
    switch (key - opt_mappings[OPT_MAP_CONFIG].keys) {
    case OPT_CONFIG_KEY_URL:
        config_of(r)->url_at = opt_yaml_here(r);
        break;
    case OPT_CONFIG_KEY_TOKEN_FILE:
        config_of(r)->token_file_at = opt_yaml_here(r);
        break;
    case OPT_CONFIG_KEY_CA:
        config_of(r)->ca_at = opt_yaml_here(r);
        break;
    case OPT_CONFIG_KEY_NAME:
        config_of(r)->name_at = opt_yaml_here(r);
        break;
    default:
        break;
    }
}

static void read_top(struct opt_yaml *r) {
    struct opt_seen seen = {0};
    const struct opt_key *key;
    struct opt_mark at = opt_yaml_here(r);
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        cli_config_problem(config_of(r), at,
                           "keys and values are expected here and not %s, as in url: wss://kit.example",
                           opt_yaml_kind(r));
        opt_yaml_skip(r);
        return;
    }
    opt_yaml_refuse_extras(r);
    while (opt_yaml_next_key(r, OPT_MAP_CONFIG, &seen, &key)) {
        if (!key)
            continue;
        note_place(r, key);
        if (key->kind == OPT_KEY_TEXTS)
            read_texts(r, key, NULL);
        else if (key->kind == OPT_KEY_LIST)
            read_list(r, key);
        else
            opt_yaml_set(r, OPT_MAP_CONFIG, &config_of(r)->top, key);
    }
    if (r->rc == HT_OK)
        opt_yaml_require(r, OPT_MAP_CONFIG, &seen, at);
}

int cli_config_parse(struct cli_config *c, const char *name, const char *text, size_t n) {
    static const char empty[] = "the file is empty; name at least one binding under expose, pull or reach";
    *c = (struct cli_config){.file = {.name = name}};
    int rc = opt_mapping_defaults(&opt_mappings[OPT_MAP_CONFIG], &c->top);
    if (rc == HT_OK)
        rc = opt_yaml_read(&c->file, text, n, read_top, empty);
    if (rc == HT_OK)
        rc = cli_config_finish(c);
    return rc == HT_ENOMEM ? rc : c->file.n_problems > 0 ? HT_EINVAL : rc;
}

int cli_config_load(struct cli_config *c, const char *name, struct ht_errmsg *err) {
    bool standard_input = strcmp(name, "-") == 0;
    struct ht_buf text = {0};
    ssize_t got = 0;
    *c = (struct cli_config){.file = {.name = name}};
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
    } while (rc == HT_OK && got != 0 && ht_buf_size(&text) <= OPT_FILE_MAX);
    if (!standard_input)
        close(fd);
    if (rc == HT_OK)
        rc = cli_config_parse(c, standard_input ? "standard input" : name,
                              text.data ? (const char *)ht_buf_head(&text) : "", ht_buf_size(&text));
    if (text.data)
        explicit_bzero(text.data, text.cap); /* headers may hold secrets */
    ht_buf_free(&text);
    return rc;
}

void cli_config_free(struct cli_config *c) {
    opt_file_free(&c->file);
    ht_free(c->bindings);
    cli_config_policies_free(c);
    cli_config_gates_free(c);
    ht_free(c->headers);
    ht_free(c->header_marks);
    *c = (struct cli_config){.n_headers = 0};
}
