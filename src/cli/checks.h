/* What `doctor` and `edge doctor` have found: a line for each check, or JSON, and an exit status. */
#ifndef HT_CLI_CHECKS_H
#define HT_CLI_CHECKS_H

#include "cli/cli.h"

enum cli_verdict { CLI_UNTRIED, CLI_OK, CLI_SKIPPED, CLI_WARNING, CLI_FAILED };

struct cli_check {
    const char *name;
    enum cli_verdict verdict;
    uint64_t us;     /* how long it took; 0: that is not told */
    int exit_status; /* of CLI_FAILED */
    char text[640];
    const char *help; /* what to do; NULL or "": nothing */
};

/* Writes them to standard output. Returns the exit status: of the first that failed, or OPT_EXIT_FAILURE when nothing
 * can be written. */
int cli_checks_tell(const struct cli_check *checks, size_t n, bool json, enum opt_color color);

#endif
