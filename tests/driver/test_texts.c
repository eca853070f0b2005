/* What a kit says and the driver passes on to whoever runs it: nothing of it may speak to a terminal. */
#include "driver/kit_script.h"

#include "base/utf8.h"

#define ESC_JSON "\\u001b[2J\\u0007\\u202e\\u009b1m\\n"
#define ESC_WIRE                                                                                                       \
    "\033[2J\007\xe2\x80\xae\xc2\x9b"                                                                                  \
    "1m\n"
#define SHOWN "\\x1b[2J\\x07\\u202e\\u009b1m\\x0a"

static unsigned n_logs;
static char last_log[1024], unbound_reason[256], lost_text[512];

static void log_text(void *user, enum ht_log_severity severity, const char *text) {
    (void)user, (void)severity;
    n_logs++;
    snprintf(last_log, sizeof last_log, "%s", text);
}

static void unbound(void *user, const struct ht_unbound *u) {
    on_unbound(user, u);
    snprintf(unbound_reason, sizeof unbound_reason, "%s", u->reason);
}

static void disconnected(void *user, const struct ht_disconnected *d) {
    on_disconnected(user, d);
    snprintf(lost_text, sizeof lost_text, "%s", d->text);
}

static void begin(void) {
    calls.log = log_text;
    calls.unbound = unbound;
    calls.disconnected = disconnected;
    n_logs = 0;
    last_log[0] = unbound_reason[0] = lost_text[0] = '\0';
    world_start();
}

static void connect_it(void) {
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
}

static void the_reason_of_a_goaway(void) {
    static const struct wire_goaway refuse = {.code = WIRE_CODE_AUTH_ERROR, .message = {ESC_WIRE, sizeof ESC_WIRE - 1}};
    begin();
    w.refuse = &refuse;
    connect_it();
    UNTIL(w.ended);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.end_text, SHOWN));
    world_stop();
}

static void the_reason_of_a_close(void) {
    begin();
    connect_it();
    UNTIL(w.connected);
    ws_conn_close(w.ws, 1011, "a\xe2\x80\xae\xc2\x9b");
    UNTIL(w.ended);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.end_text, "a\\u202e\\u009b"));
    CU_ASSERT_STRING_EQUAL(lost_text, w.end_text);
    world_stop();
}

static void a_refused_binding(void) {
    static const struct wire_bind_err no = {.code = WIRE_BIND_ERROR_PORT_IN_USE,
                                            .message = {ESC_WIRE, sizeof ESC_WIRE - 1}};
    begin();
    w.refuse_bind = &no;
    w.n_refusals = 1;
    connect_it();
    UNTIL(w.connected);
    CU_ASSERT(bind_one(HT_EXPOSE_HTTP, "1", 0) > 0);
    UNTIL(w.failed);
    CU_ASSERT_STRING_EQUAL(w.fail_message, SHOWN);
    world_stop();
}

static void a_binding_that_was_taken(void) {
    static const char payload[] = "{\"bindId\":1,\"reason\":\"" ESC_JSON "\"}";
    uint8_t frame[256] = {WIRE_BIND_REVOKED, 0, 0, 0, 0, 0, 0, 0, sizeof payload - 1};
    begin();
    connect_it();
    UNTIL(w.connected);
    CU_ASSERT(bind_one(HT_EXPOSE_HTTP, "1", 0) > 0);
    UNTIL(w.bound);
    memcpy(frame + 9, payload, sizeof payload - 1);
    kit_sends_raw(frame, 9 + sizeof payload - 1);
    UNTIL(w.unbound);
    CU_ASSERT_STRING_EQUAL(unbound_reason, SHOWN);
    world_stop();
}

/* The names that a session goes by, and a visitor's address; a resume still gives the kit its own name back. */
static void names_and_addresses(void) {
    static const char ok[] = "{\"sessionId\":\"S" ESC_JSON "\",\"resumed\":false,\"resumedBinds\":[],\"streamWindow\":"
                             "65536,\"sessionWindow\":65536,\"connectionsGranted\":1,\"joinTickets\":[],\"server\":"
                             "\"k" ESC_JSON "\"}";
    uint8_t frame[512] = {WIRE_HELLO_OK, 0, 0, 0, 0, 0, 0, (sizeof ok - 1) >> 8, (sizeof ok - 1) & 255};
    begin();
    w.retry_for_ms = 60000;
    w.retry_min_ms = 1;
    w.no_hello_ok = true;
    connect_it();
    UNTIL(w.hellos);
    memcpy(frame + 9, ok, sizeof ok - 1);
    kit_sends_raw(frame, 9 + sizeof ok - 1);
    UNTIL(w.connected);
    CU_ASSERT_STRING_EQUAL(w.session_id, "S" SHOWN);
    CU_ASSERT_STRING_EQUAL(w.server, "k" SHOWN);
    w.no_hello_ok = false;
    kit_drops();
    UNTIL(w.connected == 2);
    CU_ASSERT_STRING_EQUAL(w.hello_resume, "S" ESC_WIRE);
    world_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the reason of a GOAWAY", the_reason_of_a_goaway},
        {"the reason of a close", the_reason_of_a_close},
        {"a refused binding", a_refused_binding},
        {"a binding that was taken", a_binding_that_was_taken},
        {"names and addresses of the kit are made safe to show", names_and_addresses},
        {NULL, NULL},
    };
    return tap_main("driver, texts of a kit", tests);
}
