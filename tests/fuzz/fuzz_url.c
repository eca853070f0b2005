/*
 * What people type: the kit's URL, targets, addresses. What is accepted fits where it goes and holds nothing that could
 * end a line; written again it is read as the same.
 *
 * Input: text (up to the first NUL).
 */
#include "cli/cli.h"
#include "driver/url.h"
#include "fuzz.h"
#include "http/http.h"

static bool clean(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
            return false;
    return true;
}

static void check_err(int rc, const struct ht_errmsg *err) {
    FUZZ_CHECK(rc == HT_EINVAL && err->text[0] && memchr(err->text, 0, sizeof err->text));
}

static void check_url(const char *text) {
    static struct driver_url u, again;
    struct ht_errmsg err = {""};
    int rc = driver_url_parse(&u, text, "/api/v1/tunnel/connect", &err);
    if (rc < 0) {
        check_err(rc, &err);
        return;
    }
    FUZZ_CHECK(u.port > 0 && u.host[0] && clean(u.host) && clean(u.host_field) && clean(u.path));
    FUZZ_CHECK(u.path[0] == '/' || u.path[0] == '?');
    FUZZ_CHECK(!strchr(u.host_field, '/') && !strchr(u.host_field, '@') && !strchr(u.path, '#'));
    /* What is sent to the kit is a head that a kit takes. */
    static struct http_head h;
    struct ht_buf b = {0};
    struct http_error e;
    FUZZ_CHECK(http_write_request_line(&b, ht_slice_str("GET"), ht_slice_str(u.path)) == 0);
    FUZZ_CHECK(http_write_field(&b, ht_slice_str("Host"), ht_slice_str(u.host_field)) == 0 && http_write_end(&b) == 0);
    http_request_begin(&h, NULL);
    FUZZ_CHECK(http_head_parse(&h, (const char *)ht_buf_head(&b), ht_buf_size(&b), &e) == (int)ht_buf_size(&b));
    ht_buf_free(&b);
    char whole[sizeof u.host_field + sizeof u.path + 8], admin[DRIVER_PATH_MAX + 32];
    snprintf(whole, sizeof whole, "%s%s%s", u.tls ? "wss://" : "ws://", u.host_field, u.path);
    FUZZ_CHECK(driver_url_parse(&again, whole, "/api/v1/tunnel/connect", &err) == 0);
    FUZZ_CHECK(again.tls == u.tls && again.port == u.port && strcmp(again.host, u.host) == 0 &&
               strcmp(again.host_field, u.host_field) == 0);
    FUZZ_CHECK(strcmp(again.path, u.path) == 0); /* a path that is whole is completed no further */
    rc = driver_url_admin_path(&u, "/api/v1/tunnel/connect", "/health", admin, sizeof admin);
    FUZZ_CHECK(rc == HT_ESPACE || (rc == 0 && clean(admin) && strlen(admin) >= 7));
    FUZZ_CHECK(driver_url_admin_path(&u, "/api/v1/tunnel/connect", "/health", admin, 8) == HT_ESPACE ||
               strlen(admin) == 7);
}

static void check_target(const char *text) {
    static struct driver_target t, again;
    static struct cli_target c;
    struct ht_errmsg err = {""};
    int rc = driver_target_parse(&t, text, &err);
    if (rc < 0) {
        check_err(rc, &err);
    } else {
        char whole[DRIVER_TARGET_TEXT];
        FUZZ_CHECK(t.host[0] && clean(t.host) && (t.port > 0) != driver_target_is_unix(&t));
        FUZZ_CHECK(driver_target_parse(&again, driver_target_text(&t, whole), &err) == 0);
        FUZZ_CHECK(again.port == t.port && strcmp(again.host, t.host) == 0);
    }
    err.text[0] = '\0';
    int crc = cli_target_parse(&c, text, &err);
    if (crc < 0)
        check_err(crc, &err);
    else
        FUZZ_CHECK(c.local >= text && c.local <= text + strlen(text) &&
                   driver_target_parse(&again, c.local, NULL) == 0);
    if (rc == 0 && !strchr(text, '='))
        FUZZ_CHECK(crc == 0 && c.container_port == t.port);
}

static void check_address(const char *text) {
    struct ht_errmsg err = {""};
    struct io_addr a, again;
    char out[IO_ADDR_TEXT];
    if (io_addr_parse_hostport(&a, text, &err) < 0) {
        FUZZ_CHECK(err.text[0] != '\0');
        return;
    }
    io_addr_text(&a, out);
    FUZZ_CHECK(io_addr_parse_hostport(&again, out, &err) == 0 && io_addr_port(&a) == io_addr_port(&again));
    FUZZ_CHECK(io_addr_is_loopback(&a) == io_addr_is_loopback(&again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text)
        abort();
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    check_url(text);
    check_target(text);
    check_address(text);
    free(text);
    return 0;
}
