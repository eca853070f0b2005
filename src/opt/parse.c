/* Reads the options of a command: first the defaults, then the environment, then the arguments. */
#include "opt/opt_priv.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static const struct opt_option *find_option(const struct opt_command *c, const char *name, size_t n) {
    for (size_t i = 0; i < c->n_options; i++) {
        const char *known = opt_text(c->options[i].name);
        if (strlen(known) == n && memcmp(known, name, n) == 0)
            return &c->options[i];
    }
    return NULL;
}

/* "-f": its value is the next argument. */
static const struct opt_option *find_letter(const struct opt_command *c, const char *arg) {
    for (size_t i = 0; i < c->n_options; i++)
        if (c->options[i].letter && arg[1] == c->options[i].letter && arg[2] == '\0')
            return &c->options[i];
    return NULL;
}

static int unknown_option(const struct opt_program *p, const struct opt_command *c, const char *arg,
                          struct ht_errmsg *err) {
    char name[80];
    size_t n = strcspn(arg, "=");
    snprintf(name, sizeof name, "%.*s", (int)ht_min(n, sizeof name - 1), arg);
    const char *hint = opt_hint(p, name, c->name);
    if (hint)
        return ht_fail(err, HT_EINVAL, "unknown option %s; %s", name, hint);
    if (strncmp(name, "--", 2) != 0)
        return ht_fail(err, HT_EINVAL, "unknown option %s; options are written --name, see --help", name);
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;
    bool negated = strncmp(name, "--no-", 5) == 0;
    for (size_t i = 0; i < c->n_options; i++) {
        const struct opt_option *o = &c->options[i];
        if (o->hidden || o->type == OPT_TYPE_SECRET || (negated && o->type != OPT_TYPE_BOOL))
            continue;
        opt_consider(name + (negated ? 5 : 2), opt_text(o->name), &best, &best_distance);
    }
    if (best)
        return ht_fail(err, HT_EINVAL, "unknown option %s; did you mean --%s%s?", name, negated ? "no-" : "", best);
    for (size_t i = 0; i < p->n_commands; i++) {
        const struct opt_option *o = find_option(&p->commands[i], name + 2, strlen(name + 2));
        if (o && !o->hidden)
            return ht_fail(err, HT_EINVAL, "%s is not for `%s`, but for `%s`", name, c->name, p->commands[i].name);
    }
    return ht_fail(err, HT_EINVAL, "unknown option %s; `%s %s --help` lists all", name, p->name, c->name);
}

static void clear_list(const struct opt_option *o, char *base) {
    void *list;
    memcpy(&list, base + o->field, sizeof list);
    ht_free(list);
    list = NULL;
    memcpy(base + o->field, &list, sizeof list);
    *(size_t *)(void *)(base + o->count) = 0;
}

void opt_free(const struct opt_command *c, void *out) {
    char *base = out;
    for (size_t i = 0; i < c->n_options; i++)
        if (opt_is_list(&c->options[i]))
            clear_list(&c->options[i], base);
    void *args;
    memcpy(&args, base + c->args, sizeof args);
    ht_free(args);
    memset(base, 0, c->size);
}

static int fill_defaults(const struct opt_command *c, char *base, struct ht_errmsg *err) {
    for (size_t i = 0; i < c->n_options; i++) {
        const struct opt_option *o = &c->options[i];
        struct opt_source src = {"--", opt_text(o->name), err};
        int rc = o->default_text ? opt_set_value(o, &src, opt_text(o->default_text), base) : HT_OK;
        if (rc != HT_OK)
            return rc;
    }
    return HT_OK;
}

static int fill_from_environment(const struct opt_command *c, char *base, struct ht_errmsg *err) {
    for (size_t i = 0; i < c->n_options; i++) {
        const struct opt_option *o = &c->options[i];
        const char *text = o->env ? getenv(opt_text(o->env)) : NULL;
        if (!text || *text == '\0')
            continue;
        if (opt_is_list(o))
            clear_list(o, base);
        struct opt_source src = {"", opt_text(o->env), err};
        int rc = opt_set_value(o, &src, text, base);
        if (rc != HT_OK)
            return rc;
        *(bool *)(base + o->given) = true;
    }
    return HT_OK;
}

/* `seen[i]` tells that option i was an argument before: the first one replaces a list, others add to it. */
static int take_option(const struct opt_program *p, const struct opt_command *c, int argc, char **argv, int *at,
                       char *base, bool *seen, struct ht_errmsg *err) {
    const char *arg = argv[*at];
    bool single = c->single_dash && arg[1] != '-' && arg[2] != '\0';
    const char *name = arg + (single ? 1 : 2);
    size_t n = strcspn(name, "=");
    const char *value = n > 0 && name[n] == '=' ? name + n + 1 : NULL;
    bool is_name = single || strncmp(arg, "--", 2) == 0;
    const struct opt_option *o = is_name ? find_option(c, name, n) : find_letter(c, arg);
    bool on = true;
    if (!o && strncmp(arg, "--no-", 5) == 0) {
        o = find_option(c, name + 3, n - 3);
        on = false;
        if (o && o->type != OPT_TYPE_BOOL)
            return ht_fail(err, HT_EINVAL, "--no-%s: only options that take no value can be negated",
                           opt_text(o->name));
    }
    if (!o)
        return unknown_option(p, c, arg, err);
    if (o->refuse)
        return ht_fail(err, HT_EINVAL, "--%s is refused: %s", opt_text(o->name), opt_text(o->refuse));
    if (o->type == OPT_TYPE_BOOL) {
        if (value)
            return ht_fail(err, HT_EINVAL, "--%s takes no value; write --%s or --no-%s", opt_text(o->name),
                           opt_text(o->name), opt_text(o->name));
        *(bool *)(base + o->field) = on;
    } else {
        if (!value) {
            if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0)
                return ht_fail(err, HT_EINVAL, "--%s needs a value, such as %s", opt_text(o->name),
                               opt_text(o->example));
            value = argv[++*at];
        }
        bool *again = &seen[o - c->options];
        if (opt_is_list(o) && !*again)
            clear_list(o, base);
        *again = true;
        struct opt_source src = {"--", opt_text(o->name), err};
        int rc = opt_set_value(o, &src, value, base);
        if (rc != HT_OK)
            return rc;
    }
    *(bool *)(base + o->given) = true;
    return HT_OK;
}

static int check_args(const struct opt_program *p, const struct opt_command *c, size_t n, const char *const *args,
                      const char *base, struct ht_errmsg *err) {
    if (n > c->max_args) {
        if (c->max_args == 0)
            return ht_fail(err, HT_EINVAL, "`%s` takes no arguments, so what is \"%.80s\"?", c->name, args[0]);
        return ht_fail(err, HT_EINVAL, "too many arguments: %zu, at most %zu are taken", n, c->max_args);
    }
    if (n < c->min_args && !(c->has_unless && *(const bool *)(base + c->unless)))
        return ht_fail(err, HT_EINVAL, "%s is missing; `%s %s --help` explains it", c->arg_name, p->name, c->name);
    return HT_OK;
}

static int take_arguments(const struct opt_program *p, const struct opt_command *c, int argc, char **argv, char *base,
                          struct ht_errmsg *err) {
    bool seen[OPT_MAX_OPTIONS] = {false};
    const char **args = ht_calloc((size_t)(argc > 0 ? argc : 1), sizeof *args);
    if (!args)
        return HT_ENOMEM;
    memcpy(base + c->args, &args, sizeof args);
    size_t n = 0;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--") == 0) {
            while (++i < argc)
                args[n++] = argv[i];
            break;
        }
        if (arg[0] != '-' || arg[1] == '\0') {
            args[n++] = arg;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
            return OPT_HELP;
        if (strcmp(arg, "--version") == 0 || strcmp(arg, "-V") == 0)
            return OPT_VERSION;
        int rc = take_option(p, c, argc, argv, &i, base, seen, err);
        if (rc != HT_OK)
            return rc;
    }
    *(size_t *)(void *)(base + c->n_args) = n;
    return check_args(p, c, n, args, base, err);
}

/* Arguments are read before the environment is checked only for help: a bad variable must not hide it. */
static bool asks_for_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

int opt_parse(const struct opt_program *p, const struct opt_command *c, void *out, int argc, char **argv,
              struct ht_errmsg *err) {
    memset(out, 0, c->size);
    if (asks_for_help(argc, argv))
        return OPT_HELP;
    int rc = fill_defaults(c, out, err);
    if (rc == HT_OK)
        rc = fill_from_environment(c, out, err);
    if (rc == HT_OK)
        rc = take_arguments(p, c, argc, argv, out, err);
    if (rc == HT_ENOMEM)
        ht_fail(err, rc, "%s", ht_err_text(rc));
    if (rc != HT_OK)
        opt_free(c, out);
    return rc;
}

/* ---- a command that was left out ---- */

/* Whether the argument behind this one is its value, for one of the commands that may be meant. */
static bool takes_next(const struct opt_program *p, const char *arg) {
    for (size_t i = 0; i < p->n_one_word; i++) {
        const struct opt_command *c = &p->commands[p->one_word[i].command];
        const struct opt_option *o =
            strncmp(arg, "--", 2) == 0 ? find_option(c, arg + 2, strlen(arg + 2)) : find_letter(c, arg);
        if (o)
            return o->type != OPT_TYPE_BOOL;
    }
    return false;
}

int opt_command_left_out(const struct opt_program *p, int *argc, char **argv, const struct opt_command **command,
                         struct ht_errmsg *err) {
    const struct opt_one_word *meant = NULL, *alone = p->one_word;
    int last = 1; /* of what is no option and no value of one */
    for (int i = 2; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        if (argv[i][0] != '-')
            last = i;
        else
            i += takes_next(p, argv[i]);
    }
    for (const struct opt_one_word *w = p->one_word; w < p->one_word + p->n_one_word; w++) {
        if (*w->word == '\0')
            alone = w;
        else if (last > 1 && strcmp(w->word, argv[last]) == 0)
            meant = w;
    }
    const char *hint = last > 1 && !meant ? opt_hint(p, argv[last], "") : NULL;
    if (hint)
        return ht_fail(err, HT_EINVAL, "`%.40s` is no target; %s", argv[last], hint);
    *command = &p->commands[(meant ? meant : alone)->command];
    if (meant) {
        memmove(&argv[last], &argv[last + 1], (size_t)(*argc - last) * sizeof *argv); /* with the NULL at the end */
        --*argc;
    }
    return HT_OK;
}
