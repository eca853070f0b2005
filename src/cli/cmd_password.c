/* password new: a line for the file of --basic-auth. */
#include "cli/cli.h"

#include "auth/passwords.h"

#include <unistd.h>

static int complain(const char *text) {
    cli_complain("%s", text);
    return OPT_EXIT_CONFIG;
}

/* From a terminal it is asked for twice: nobody sees what was typed. 0 or an exit status. */
static int read_password(const char *name, char out[WIRE_LIMIT_MAX_TOKEN + 1]) {
    char again[WIRE_LIMIT_MAX_TOKEN + 1] = "", prompt[AUTH_USER_MAX + 64];
    bool person = isatty(STDIN_FILENO);
    snprintf(prompt, sizeof prompt, "Password of %.128s (not shown): ", name);
    int rc = person ? cli_read_unseen(prompt, out) : cli_read_line(out);
    if (rc == HT_OK && person)
        rc = cli_read_unseen("The same again: ", again);
    bool same = !person || strcmp(out, again) == 0;
    explicit_bzero(again, sizeof again);
    return rc < 0    ? complain("no password could be read from standard input")
           : !same   ? complain("the two are not the same")
           : !out[0] ? complain("the password is empty")
                     : OPT_EXIT_OK;
}

int cmd_password_new(int argc, char **argv) {
    struct opt_password_new o;
    struct ht_errmsg err;
    char password[WIRE_LIMIT_MAX_TOKEN + 1] = "", hash[AUTH_HASH_MAX];
    int rc = opt_password_new_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_PASSWORD_NEW, &err);
    if (auth_user_name_check(ht_slice_str(o.args[0]), &err) < 0) {
        cli_complain("%s", err.text);
        rc = OPT_EXIT_USAGE;
    } else {
        rc = read_password(o.args[0], password);
    }
    if (rc == OPT_EXIT_OK && auth_password_hash(password, hash, &err) < 0)
        rc = complain(err.text);
    explicit_bzero(password, sizeof password);
    if (rc == OPT_EXIT_OK && (printf("%s:%s\n", o.args[0], hash) < 0 || fflush(stdout) != 0)) {
        cli_complain("standard output cannot be written");
        rc = OPT_EXIT_FAILURE;
    }
    opt_password_new_free(&o);
    return rc;
}
