#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

const char *cli_program = "hoody-tunnel";

void (*cli_before_complaint)(void);

void cli_complain(const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; n > 0 && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    if (cli_before_complaint)
        cli_before_complaint();
    fprintf(stderr, "hoody-tunnel: %s\n", n > 0 ? text : "");
}

void cli_complain_status(unsigned status, const char *said, const char *token, bool stored) {
    const char *colon = *said ? ": " : "";
    if (status == 401)
        cli_complain(!token || !*token ? "the kit wants a token: " CLI_GIVE_A_TOKEN
                     : stored          ? "the kit refused the token: " CLI_STORED_TOKEN
                                       : "the kit refused the token");
    else if (status == 403)
        cli_complain("the kit serves only its trusted proxies, and this machine is none of them (403)");
    else if (status == 407)
        cli_complain(
            "a proxy of this network wants credentials (407): --proxy names it, and --proxy-auth-file has them");
    else if (status == 502 || status == 504)
        cli_complain("what stands in front of the kit does not reach it (%u)%s%s", status, colon, said);
    else if (status / 100 == 3)
        cli_complain("something other than a kit answers at this URL (%u), such as the login page of this network",
                     status);
    else if (status == 404)
        cli_complain("the server at this URL is not a kit, or an older one (404)%s%s", colon, said);
    else
        cli_complain("the kit answered %u%s%s", status, colon, said);
}

bool cli_terminal_gone(void) {
    static volatile sig_atomic_t had; /* 1: there was one, 2: there was none */
    int saved = errno;
    bool is = tcgetpgrp(STDIN_FILENO) >= 0;
    errno = saved;
    if (had == 0)
        had = is ? 1 : 2;
    return had == 1 && !is;
}

bool cli_use_color(enum opt_color color, int fd) {
    const char *never = getenv("NO_COLOR"), *term = getenv("TERM");
    if (color != OPT_COLOR_AUTO)
        return color == OPT_COLOR_ALWAYS;
    return !(never && *never) && isatty(fd) && !(term && strcmp(term, "dumb") == 0);
}

int cli_parse_result(int rc, enum opt_command_id command, const struct ht_errmsg *err) {
    if (rc == OPT_HELP) {
        opt_help(&opt_commands[command], stdout);
        return OPT_EXIT_OK;
    }
    if (rc == OPT_VERSION)
        return cli_version();
    cli_complain("%s", rc == HT_ENOMEM ? ht_err_text(rc) : err->text);
    if (rc == HT_ENOMEM)
        return OPT_EXIT_FAILURE;
    fprintf(stderr, "Try `hoody-tunnel %s --help`.\n", opt_commands[command].name);
    return OPT_EXIT_USAGE;
}
