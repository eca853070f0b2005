/* What a program may say of a service, its visitors and heads, through the public header alone. */
#include "driver/hoody_tunnel.h"
#include "support/tap.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static struct ht_tunnel *t;

static int try_bind(struct ht_bind_options o) {
    o.size = sizeof o;
    return ht_tunnel_bind(t, &o);
}

#define EXPOSE(...) ((struct ht_bind_options){.kind = HT_EXPOSE_HTTP, .target = __VA_ARGS__})
#define PULL(...) ((struct ht_bind_options){.kind = HT_PULL_TCP, .target = __VA_ARGS__})
#define TEXTS(...) ((const char *const[]){__VA_ARGS__})

static bool refused(struct ht_bind_options o, const char *says) {
    int rc = try_bind(o);
    bool good = rc == HT_TUNNEL_EINVAL && strstr(ht_tunnel_last_error(), says);
    if (!good)
        printf("# %d: %s\n", rc, rc < 0 ? ht_tunnel_last_error() : "accepted");
    return good;
}

static void targets(void) {
    CU_ASSERT(try_bind(EXPOSE("https://localhost:3443")) > 0);
    CU_ASSERT(try_bind(EXPOSE("https://127.0.0.1:3443", .target_sni = "app.example")) > 0);
    CU_ASSERT(try_bind(EXPOSE("https+insecure://localhost")) > 0);
    CU_ASSERT(try_bind(EXPOSE("unix:/run/app.sock")) > 0);
    CU_ASSERT(try_bind(PULL("unix:///run/app.sock")) > 0);
    CU_ASSERT(refused(EXPOSE("tls://localhost"), "write https://localhost:443"));
    CU_ASSERT(refused(PULL("https://localhost"), "pull tls://localhost:443"));
    CU_ASSERT(refused(EXPOSE("3000", .target_sni = "a"), "TLS is spoken to https:// and tls:// targets only"));
    CU_ASSERT(refused(EXPOSE("unix:/run/app.sock", .target_ca = "x.pem"), "TLS is spoken to"));
    CU_ASSERT(refused(EXPOSE("https://localhost", .target_sni = "a_b/"), "is not the name of a host"));
    CU_ASSERT(refused(EXPOSE("https://localhost", .target_alpn = "h2"), "ALPN names nothing else"));
    CU_ASSERT(refused(EXPOSE("https+insecure://localhost", .target_ca = "x.pem"), "is not verified"));
    CU_ASSERT(refused(EXPOSE("https://localhost", .target_key = "x.pem"), "is missing"));
}

static void visitors_and_heads(void) {
    CU_ASSERT(try_bind(EXPOSE("3000", .host_header = "rewrite", .forwarded = HT_FORWARDED_PASS,
                              .trusted_edges = TEXTS("10.0.0.0/8"), .n_trusted_edges = 1,
                              .allow_ips = TEXTS("::1", "10.0.0.1,10.0.0.2"), .n_allow_ips = 2,
                              .request_headers = TEXTS("A: b", "-C"), .n_request_headers = 2,
                              .response_headers = TEXTS("+D: e"), .n_response_headers = 1)) > 0);
    CU_ASSERT(refused(EXPOSE("3000", .host_header = "a b"), "is no Host"));
    CU_ASSERT(refused(EXPOSE("3000", .request_headers = TEXTS("Host: x"), .n_request_headers = 1), "--host-header"));
    CU_ASSERT(refused(EXPOSE("3000", .request_headers = TEXTS(NULL), .n_request_headers = 1), "NULL"));
    CU_ASSERT(
        refused(EXPOSE("3000", .response_headers = TEXTS("Connection: x"), .n_response_headers = 1), "one connection"));
    CU_ASSERT(refused(EXPOSE("3000", .allow_ips = TEXTS("10.0.0.0/99"), .n_allow_ips = 1), "is not a network"));
    CU_ASSERT(refused(EXPOSE("3000", .deny_ips = TEXTS(NULL), .n_deny_ips = 1), "NULL"));
    CU_ASSERT(refused(EXPOSE("3000", .basic_auth = "/nonexistent/file"), "cannot be opened"));
    CU_ASSERT(
        refused(EXPOSE("3000", .error_pages = TEXTS("/nonexistent/file"), .n_error_pages = 1), "cannot be opened"));
    CU_ASSERT(refused(PULL("3000", .host_header = "rewrite"), "only an exposed service"));
    ht_tunnel_reload(t);
    ht_tunnel_reload(NULL);
    ht_tunnel_turn(t, 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"targets with TLS and at Unix sockets", targets},
        {"who may visit, and what of heads is changed", visitors_and_heads},
        {NULL, NULL},
    };
    struct ht_tunnel_options o = {.size = sizeof o, .url = "127.0.0.1:1", .client_id = ""};
    if (ht_tunnel_create(&t, &o, NULL, NULL) != HT_TUNNEL_OK)
        return 1;
    int rc = tap_main("driver, bind options", tests);
    ht_tunnel_destroy(&t);
    return rc;
}
