/* Which command is meant, and what its help says. */
#include "opt/opt_priv.h"

void opt_help(const struct opt_command *c, FILE *to) { fputs(opt_text(c->help), to); }

void opt_overview(const struct opt_program *p, FILE *to) { fputs(opt_text(p->overview), to); }

/* Words of argv[at..] that make up `name`; 0 when they do not. */
static int words_matching(const char *name, int argc, char **argv, int at) {
    int used = 0;
    for (;;) {
        size_t n = strcspn(name, " ");
        if (at + used >= argc || strlen(argv[at + used]) != n || memcmp(argv[at + used], name, n) != 0)
            return 0;
        used++;
        if (name[n] == '\0')
            return used;
        name += n + 1;
    }
}

static int unknown_command(const struct opt_program *p, int argc, char **argv, int at, struct ht_errmsg *err) {
    const char *word = argv[at], *best = NULL;
    size_t best_distance = SIZE_MAX, n = strlen(word);
    char joined[64];
    const char *hint = opt_hint(p, word, "");
    if (hint)
        return ht_fail(err, HT_EINVAL, "there is no command `%.40s`; %s", word, hint);
    snprintf(joined, sizeof joined, "%s%s%s", word, at + 1 < argc ? " " : "", at + 1 < argc ? argv[at + 1] : "");
    for (size_t i = 0; i < p->n_commands; i++) {
        const char *name = p->commands[i].name;
        if (strncmp(name, word, n) == 0 && name[n] == ' ')
            return ht_fail(err, HT_EINVAL, "there is no command `%s`; did you mean `%s`?", joined, name);
        opt_consider(strchr(name, ' ') ? joined : word, name, &best, &best_distance);
    }
    if (best)
        return ht_fail(err, HT_EINVAL, "there is no command `%.40s`; did you mean `%s`?", word, best);
    return ht_fail(err, HT_EINVAL, "there is no command `%.40s`; `%s --help` lists all", word, p->name);
}

int opt_command_find(const struct opt_program *p, int argc, char **argv, const struct opt_command **command, int *used,
                     struct ht_errmsg *err) {
    *command = NULL;
    *used = 1;
    if (argc < 2)
        return OPT_HELP;
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return OPT_VERSION;
    bool help = strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
    int at = help ? 2 : 1;
    if (at == argc)
        return OPT_HELP;
    for (size_t i = 0; i < p->n_commands; i++) {
        int n = words_matching(p->commands[i].name, argc, argv, at);
        if (n > 0) {
            *command = &p->commands[i];
            *used = at + n;
            return help ? OPT_HELP : HT_OK;
        }
    }
    if (argv[at][0] == '-')
        return ht_fail(err, HT_EINVAL, "the command comes first, then its options: %s COMMAND %.40s", p->name,
                       argv[at]);
    return unknown_command(p, argc, argv, at, err);
}
