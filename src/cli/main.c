#include "cli/cli.h"

#include "driver/url.h"
#include "kit/kit.h"
#include "proc/sandbox.h"
#include "proc/title.h"

#include <malloc.h>

/* The blocks that bytes are sent from (io.h) are large, and there may be many of them for a moment: while links are
 * lost. glibc would keep such memory once some of it was freed, so its limit is fixed. */
#define MALLOC_LARGE (128 << 10)

/* True for "hoody-tunnel 3000", where the command is left out. Also for 8080:3000, which expose refuses with a message
 * that says what would be right. */
static bool names_a_target(const char *word) {
    struct driver_target target;
    struct ht_slice port;
    struct cli_target parsed;
    const char *local;
    return driver_target_is_pair(word, &port, &local) || (cli_target_parse(&parsed, word, NULL) == HT_OK &&
                                                          driver_target_parse(&target, parsed.local, NULL) == HT_OK);
}

int main(int argc, char **argv) {
    static int (*const run[OPT_COMMANDS])(int, char **) = {
        [OPT_CMD_SERVE] = kit_main,
        [OPT_CMD_EXPOSE] = cmd_expose,
        [OPT_CMD_PULL] = cmd_pull,
        [OPT_CMD_VTUNNEL_CLIENT] = cmd_vtunnel_client,
        [OPT_CMD_REACH] = cmd_reach,
        [OPT_CMD_UP] = cmd_up,
        [OPT_CMD_CONFIG_CHECK] = cmd_config_check,
        [OPT_CMD_DEMO] = cmd_demo,
        [OPT_CMD_LOGIN] = cmd_login,
        [OPT_CMD_LOGOUT] = cmd_logout,
        [OPT_CMD_STATUS] = cmd_status,
        [OPT_CMD_LIST] = cmd_list,
        [OPT_CMD_SESSIONS_LIST] = cmd_sessions_list,
        [OPT_CMD_SESSIONS_KILL] = cmd_sessions_kill,
        [OPT_CMD_BINDINGS_LIST] = cmd_bindings_list,
        [OPT_CMD_HEALTH] = cmd_health,
        [OPT_CMD_READY] = cmd_ready,
        [OPT_CMD_DOCTOR] = cmd_doctor,
        [OPT_CMD_METRICS] = cmd_metrics,
        [OPT_CMD_EVENTS] = cmd_events,
        [OPT_CMD_REQUESTS_LIST] = cmd_requests_list,
        [OPT_CMD_REQUESTS_SHOW] = cmd_requests_show,
        [OPT_CMD_REQUESTS_REPLAY] = cmd_requests_replay,
        [OPT_CMD_ENV] = cmd_env,
        [OPT_CMD_EDGE_ALIASES] = cmd_edge_aliases,
        [OPT_CMD_EDGE_CONTAINERS] = cmd_edge_containers,
        [OPT_CMD_EDGE_DEV] = cmd_edge_dev,
        [OPT_CMD_EDGE_DOMAINS] = cmd_edge_domains,
        [OPT_CMD_EDGE_PERMISSIONS] = cmd_edge_permissions,
        [OPT_CMD_EDGE_HOOKS] = cmd_edge_hooks,
        [OPT_CMD_EDGE_SETTINGS] = cmd_edge_settings,
        [OPT_CMD_EDGE_CACHE] = cmd_edge_cache,
        [OPT_CMD_EDGE_SERVICES] = cmd_edge_services,
        [OPT_CMD_EDGE_STATE] = cmd_edge_state,
        [OPT_CMD_EDGE_UP] = cmd_edge_up,
        [OPT_CMD_EDGE_LOGS] = cmd_edge_logs,
        [OPT_CMD_EDGE_STATS] = cmd_edge_stats,
        [OPT_CMD_EDGE_DOCTOR] = cmd_edge_doctor,
        [OPT_CMD_VERSION] = cmd_version,
        [OPT_CMD_COMPLETION] = cmd_completion,
        [OPT_CMD_TOKEN_NEW] = cmd_token_new,
        [OPT_CMD_RESTART] = cmd_restart,
        [OPT_CMD_PASSWORD_NEW] = cmd_password_new,
    };
    const struct opt_command *command = NULL;
    struct ht_errmsg err;
    int used = 0;
    mallopt(M_MMAP_THRESHOLD, MALLOC_LARGE);
    proc_title_begin(argc, argv);
    if (argc > 0 && *argv[0])
        cli_program = argv[0];
    io_ignore_signals();
    int rc = opt_command_find(&opt_program, argc, argv, &command, &used, &err);
    if (rc < 0 && names_a_target(argv[1])) {
        rc = opt_command_left_out(&opt_program, &argc, argv, &command, &err);
        used = 1;
    }
    if (rc == OPT_HELP) {
        if (command)
            opt_help(command, stdout);
        else
            opt_overview(&opt_program, stdout);
        return OPT_EXIT_OK;
    }
    if (rc == OPT_VERSION)
        return cli_version();
    if (rc < 0) {
        cli_complain("%s", err.text);
        fprintf(stderr, "Try `hoody-tunnel --help`.\n");
        return OPT_EXIT_USAGE;
    }
    /* `serve` does this by itself once it listens. No other command starts programs that need more rights. An old
     * kernel may refuse. */
    if (command->id != OPT_CMD_SERVE && proc_sandbox_no_new_privs(&err) < 0)
        cli_complain("%s", err.text);
    return run[command->id](argc - used, argv + used);
}
