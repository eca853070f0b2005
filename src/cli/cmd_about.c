/* version, completion: what the program says about itself. */
#include "cli/cli.h"

#include "completions_gen.h"

/* Returns the exit status: whether standard output could be written. */
static int printed(void) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return OPT_EXIT_OK;
    cli_complain("standard output cannot be written");
    return OPT_EXIT_FAILURE;
}

int cli_version(void) {
    printf("hoody-tunnel %s\n", ht_version());
    return printed();
}

int cmd_version(int argc, char **argv) {
    struct opt_version o;
    struct ht_errmsg err;
    int rc = opt_version_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_VERSION, &err);
    opt_version_free(&o);
    return cli_version();
}

int cmd_completion(int argc, char **argv) {
    struct opt_completion o;
    struct ht_errmsg err;
    int rc = opt_completion_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_COMPLETION, &err);
    const struct completion_file *f = completion_files, *end = f + COMPLETION_FILES;
    while (f < end && strcmp(f->shell, o.args[0]) != 0)
        f++;
    if (f == end) {
        cli_complain("there is no completion for \"%.40s\"; there is one for bash, zsh and fish", o.args[0]);
        rc = OPT_EXIT_USAGE;
    } else {
        fputs(f->text, stdout);
        rc = printed();
    }
    opt_completion_free(&o);
    return rc;
}
