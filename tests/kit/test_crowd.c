/*
 * The base listener among strangers: whatever they hold or leave half, probes are answered and drivers get in
 * (hardening case 28).
 */
#include "rawws.h"

#define HALF "GET /api/v1/tunnel/health HTTP/1.1\r\nHost: localhost\r\n"
#define PROBE HALF "Connection: close\r\n\r\n"
#define PLACES 64u
#define MANY 200

static void connect_from(struct raw *r, const char *source) { raw_connect_from(r, host.port, source); }

static void close_all(struct raw *r, size_t n) {
    for (size_t i = 0; i < n; i++)
        raw_close(&r[i]);
}

static int probe_from(const char *source) {
    struct raw r;
    int status = 0;
    connect_from(&r, source);
    raw_send(&r, PROBE);
    UNTIL(raw_ended(&r));
    sscanf(raw_text(&r), "HTTP/1.1 %d", &status);
    raw_close(&r);
    return status;
}

static void a_driver_gets_in(void) {
    struct peer p;
    peer_start(&p, NULL);
    peer_bye(&p);
}

static void the_oldest_half_head_gives_way(void) {
    host_start("--head-timeout 10m");
    struct raw r[MANY];
    for (size_t i = 0; i < MANY; i++) {
        raw_connect(&r[i], host.port);
        if (i % 3)
            raw_send(&r[i], HALF);
        one_turn();
    }
    UNTIL(kit_http_clients(host.kit) == PLACES);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(probe_from("127.0.0.1"), 200);
    a_driver_gets_in();
    CU_ASSERT(kit_metrics(host.kit)->base_connections_dropped_total[HT_METRIC_DROP_CROWDED] > 0);
    CU_ASSERT(raw_ended(&r[1]));
    CU_ASSERT_FALSE(raw_ended(&r[MANY - 1]));
    raw_send(&r[MANY - 1], "Connection: close\r\n\r\n");
    UNTIL(raw_ended(&r[MANY - 1]));
    CU_ASSERT_EQUAL(strncmp(raw_text(&r[MANY - 1]), "HTTP/1.1 200 ", 13), 0);
    close_all(r, MANY);
    host_stop();
}

/* All places are taken by those who have begun a head. Then the probe has come first, and everybody else before the kit
 * had a look: as long as nothing of it is read, it would lose least of all. */
static void a_request_that_has_come_is_served(void) {
    host_start("--head-timeout 10m");
    struct raw probe, before[PLACES], r[MANY];
    for (size_t i = 0; i < PLACES; i++) {
        raw_connect(&before[i], host.port);
        raw_send(&before[i], HALF);
        settle();
    }
    CU_ASSERT_EQUAL(kit_http_clients(host.kit), PLACES);
    raw_connect(&probe, host.port);
    raw_send(&probe, PROBE);
    for (size_t i = 0; i < MANY; i++) {
        raw_connect(&r[i], host.port);
        raw_send(&r[i], HALF);
    }
    UNTIL(raw_ended(&probe));
    CU_ASSERT_EQUAL(strncmp(raw_text(&probe), "HTTP/1.1 200 ", 13), 0);
    raw_close(&probe);
    close_all(before, PLACES);
    close_all(r, MANY);
    host_stop();
}

static void answers_that_nobody_takes_give_way(void) {
    host_start("--head-timeout 10m");
    struct raw r[PLACES];
    struct ht_buf asks = {0};
    /* A long answer that costs nothing to make: on a busy machine all must be stuck before the first one is given up.
     */
    for (int k = 0; k < 400; k++)
        if (ht_buf_append_str(&asks, "GET /api/v1/tunnel/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n") < 0)
            abort();
    for (size_t i = 0; i < PLACES; i++) {
        raw_connect(&r[i], host.port);
        setsockopt(r[i].fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        (void)!send(r[i].fd, ht_buf_head(&asks), ht_buf_size(&asks), MSG_NOSIGNAL | MSG_DONTWAIT);
        settle();
    }
    ht_buf_free(&asks);
    CU_ASSERT_EQUAL(kit_http_clients(host.kit), PLACES);
    CU_ASSERT_EQUAL(probe_from("127.0.0.1"), 200);
    a_driver_gets_in();
    CU_ASSERT(kit_metrics(host.kit)->base_connections_dropped_total[HT_METRIC_DROP_CROWDED] > 0);
    CU_ASSERT(kit_http_clients(host.kit) < PLACES);
    close_all(r, PLACES);
    host_stop();
}

/* Whoever holds most of the places gives one back, not whoever came first. */
static void one_address_does_not_press_out_another(void) {
    host_start("--head-timeout 10m");
    struct raw slow, r[MANY];
    connect_from(&slow, "127.0.0.2");
    raw_send(&slow, HALF);
    UNTIL(kit_http_clients(host.kit) == 1);
    for (size_t i = 0; i < MANY; i++) {
        raw_connect(&r[i], host.port);
        raw_send(&r[i], HALF);
        one_turn();
    }
    UNTIL(kit_http_clients(host.kit) == PLACES);
    CU_ASSERT_FALSE(raw_ended(&slow));
    raw_send(&slow, "Connection: close\r\n\r\n");
    UNTIL(raw_ended(&slow));
    CU_ASSERT_EQUAL(strncmp(raw_text(&slow), "HTTP/1.1 200 ", 13), 0);
    raw_close(&slow);
    close_all(r, MANY);
    host_stop();
}

static void who_is_not_trusted_takes_no_place(void) {
    host_start("--trusted-proxy 127.0.0.2 --head-timeout 10m");
    struct raw r[MANY];
    for (size_t i = 0; i < MANY; i++) {
        raw_connect(&r[i], host.port);
        one_turn();
    }
    for (size_t i = 0; i < MANY; i++) {
        UNTIL(raw_ended(&r[i]));
        CU_ASSERT_EQUAL(strncmp(raw_text(&r[i]), "HTTP/1.1 403 ", 13), 0);
        CU_ASSERT_STRING_EQUAL(raw_body(&r[i]), "");
    }
    CU_ASSERT_EQUAL(kit_http_clients(host.kit), 0);
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->base_connections_dropped_total[HT_METRIC_DROP_UNTRUSTED], MANY);
    CU_ASSERT_EQUAL(probe_from("127.0.0.2"), 200);
    close_all(r, MANY);
    host_stop();
}

/* ---- WebSockets before HELLO ---- */

/* False: it was upgraded and closed. The answer is read and forgotten. */
static bool upgrade_from(struct raw *r, const char *source, const char *token) {
    char request[512];
    connect_from(r, source);
    snprintf(request, sizeof request,
             "GET " WIRE_CONNECT_PATH " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
             "Sec-WebSocket-Protocol: hoody-tunnel.v1\r\n%s%s%s\r\n",
             token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
    raw_send(r, request);
    UNTIL(strstr(raw_text(r), "\r\n\r\n"));
    CU_ASSERT_EQUAL_FATAL(strncmp(raw_text(r), "HTTP/1.1 101 ", 13), 0);
    ht_buf_consume(&r->in, (size_t)(strstr(raw_text(r), "\r\n\r\n") + 4 - raw_text(r)));
    settle();
    return !raw_ended(r);
}

static void hello_makes_a_session(struct raw *r) {
    struct ht_buf b = {0};
    unsigned before = kit_sessions_live(host.kit);
    message_put_text(&b, WIRE_HELLO, 0, HELLO_TEXT);
    CU_ASSERT(raw_push(r, &b));
    ht_buf_free(&b);
    UNTIL(kit_sessions_live(host.kit) == before + 1);
}

static void a_token_has_places_of_its_own(void) {
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start("--max-pre-auth-connections 4 --hello-timeout 5m --takeover-grace 0");
    unsetenv("HOODY_TUNNEL_TOKEN");
    struct raw strangers[5], known[5];
    for (size_t i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(upgrade_from(&strangers[i], "127.0.0.1", NULL), i < 4);
    for (size_t i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(upgrade_from(&known[i], "127.0.0.1", "sesame"), i < 4);
    CU_ASSERT_EQUAL(kit_websockets_pre_auth(host.kit), 8);
    hello_makes_a_session(&known[0]);
    close_all(strangers, 5);
    close_all(known, 5);
    host_stop();
}

/* Without a token to show, the address that holds most of the places gives its oldest back. */
static void strangers_elsewhere_get_in(void) {
    host_start("--max-pre-auth-connections 4 --hello-timeout 5m --takeover-grace 0");
    struct raw greedy[4], other[2], more;
    for (size_t i = 0; i < 4; i++)
        CU_ASSERT(upgrade_from(&greedy[i], "127.0.0.1", NULL));
    CU_ASSERT(upgrade_from(&other[0], "127.0.0.2", NULL));
    CU_ASSERT(raw_ended(&greedy[0]));
    CU_ASSERT(upgrade_from(&other[1], "127.0.0.2", NULL));
    CU_ASSERT(raw_ended(&greedy[1]));
    CU_ASSERT_FALSE(upgrade_from(&more, "127.0.0.2", NULL)); /* they hold as many now */
    CU_ASSERT_FALSE(raw_ended(&greedy[2]));
    hello_makes_a_session(&other[0]);
    raw_close(&more);
    close_all(greedy, 4);
    close_all(other, 2);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the connection with the oldest incomplete head makes room", the_oldest_half_head_gives_way},
        {"a request that has come is served", a_request_that_has_come_is_served},
        {"connections with unread answers make room", answers_that_nobody_takes_give_way},
        {"one address does not press out another", one_address_does_not_press_out_another},
        {"untrusted peers take no place", who_is_not_trusted_takes_no_place},
        {"a token has places of its own", a_token_has_places_of_its_own},
        {"strangers at other addresses get in", strangers_elsewhere_get_in},
        {NULL, NULL},
    };
    return tap_main("crowd", tests);
}
