#include "cli/checks.h"

#include <unistd.h>

static const char *const verdict_names[] = {"skipped", "ok", "skipped", "warning", "failed"};

static int put_line(struct ht_buf *b, const struct cli_check *c, int width, bool color) {
    static const char *const colors[] = {"2", "32", "2", "33", "31"};
    char took[CLI_HUMAN];
    int rc = ht_buf_printf(b, color ? "\033[%sm%-8s\033[0m %-*s  " : "%.0s%-8s %-*s  ", colors[c->verdict],
                           verdict_names[c->verdict], width, c->name);
    if (rc == HT_OK)
        rc = cli_put_text(b, c->verdict == CLI_UNTRIED ? "not tried" : c->text);
    if (rc == HT_OK && c->us)
        rc = ht_buf_printf(b, " (%s)", cli_human_us(c->us, took));
    if (rc == HT_OK && c->help && *c->help)
        rc = ht_buf_printf(b, "; %s", c->help);
    return rc == HT_OK ? ht_buf_append_str(b, "\n") : rc;
}

static int put_json(struct ht_buf *b, const struct cli_check *c) {
    int rc = ht_buf_printf(b, "{\"name\":\"%s\",\"status\":\"%s\",\"durationUs\":%llu,\"message\":", c->name,
                           verdict_names[c->verdict], (unsigned long long)c->us);
    if (rc == HT_OK)
        rc = cli_json_string(b, c->verdict == CLI_UNTRIED ? "not tried" : c->text);
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, ",\"help\":");
    if (rc == HT_OK)
        rc = c->help && *c->help ? cli_json_string(b, c->help) : ht_buf_append_str(b, "null");
    return rc == HT_OK ? ht_buf_append_str(b, "}") : rc;
}

int cli_checks_tell(const struct cli_check *checks, size_t n, bool json, enum opt_color color) {
    struct ht_buf b = {0};
    bool colored = cli_use_color(color, STDOUT_FILENO);
    size_t width = 10;
    int status = OPT_EXIT_OK, rc = HT_OK;
    for (size_t i = n; i-- > 0;) {
        if (checks[i].verdict == CLI_FAILED)
            status = checks[i].exit_status;
        width = ht_max(width, strlen(checks[i].name));
    }
    if (json)
        rc = ht_buf_printf(&b, "{\"ok\":%s,\"exitStatus\":%d,\"checks\":[", status ? "false" : "true", status);
    for (size_t i = 0; i < n && rc == HT_OK; i++) {
        if (json && i)
            rc = ht_buf_append_str(&b, ",");
        if (rc == HT_OK)
            rc = json ? put_json(&b, &checks[i]) : put_line(&b, &checks[i], (int)width, colored);
    }
    if (rc == HT_OK && json)
        rc = ht_buf_append_str(&b, "]}\n");
    bool ok =
        rc == HT_OK && fwrite(ht_buf_head(&b), 1, ht_buf_size(&b), stdout) == ht_buf_size(&b) && fflush(stdout) == 0;
    ht_buf_free(&b);
    if (!ok)
        cli_complain("standard output cannot be written");
    return ok ? status : OPT_EXIT_FAILURE;
}
