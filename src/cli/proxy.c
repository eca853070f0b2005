/* The proxy of a command: --proxy, --proxy-auth-file and --proxy-ca. */
#include "cli/cli.h"

#include "driver/proxy.h"

static struct driver_proxy_choice choice;
static const char *auth_file;
static struct io_proxy *made; /* for the requests of this command, which all go to one kit */
static bool known;

void cli_proxy_set(const char *url, const char *file, const char *ca) {
    choice = (struct driver_proxy_choice){.url = url, .ca = ca};
    auth_file = file;
}

int cli_proxy_auth(char out[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) {
    out[0] = '\0';
    return auth_file ? cli_secret_line("the proxy's credentials", auth_file, out, err) : HT_OK;
}

int cli_proxy_put(struct ht_tunnel_options *o, char auth[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) {
    o->proxy = choice.url;
    o->proxy_ca = choice.ca;
    o->proxy_auth = auth;
    return cli_proxy_auth(auth, err);
}

void cli_proxy_hide(void) {
    union { /* an argument of main() may be written to (C11 5.1.2.2.1) */
        const char *in;
        char *out;
    } text = {.in = choice.url};
    size_t n = choice.url ? strcspn(choice.url, "/") : 0;
    if (n > 0 && strncmp(choice.url + n - 1, "://", 3) == 0)
        n += 2;
    size_t end = choice.url ? n + strcspn(choice.url + n, "/") : 0;
    char *at = end > 0 ? memrchr(text.out, '@', end) : NULL;
    n = end > n ? n : 0;
    if (at && at > text.out + n)
        memset(text.out + n, '*', (size_t)(at - text.out) - n);
}

int cli_proxy_for(const struct driver_url *kit, const struct io_proxy **out, struct ht_errmsg *err) {
    char auth[WIRE_LIMIT_MAX_TOKEN + 1] = "";
    int rc = HT_OK;
    if (!known) {
        rc = cli_proxy_auth(auth, err) < 0 ? HT_ETLS : HT_OK; /* as a file of authorities that cannot be read */
        choice.auth = auth;
        if (rc == HT_OK)
            rc = driver_proxy_choose(&made, kit, &choice, err);
        choice.auth = NULL;
        explicit_bzero(auth, sizeof auth);
        known = rc == HT_OK;
        if (known)
            cli_proxy_hide();
    }
    *out = made;
    return rc;
}
