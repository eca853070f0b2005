/* Files of users, logins on threads, and the pages for errors. */
#include "gate/login.h"
#include "gate/pages.h"

#include "base/base64.h"
#include "io/net_support.h"

#include <crypt.h>
#include <sys/stat.h>

#define GOOD_BCRYPT                                                                                                    \
    "$2y$10$"                                                                                                          \
    "abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234"

/* A fast hash that is accepted, for "sesame". */
static const char *sha(void) {
    static struct crypt_data data;
    return crypt_r("sesame", "$5$salt$", &data);
}

static void files_of_users(void) {
    static const struct {
        const char *text, *says; /* NULL: good */
    } rows[] = {
        {"ann:" GOOD_BCRYPT "\n", NULL},
        {"# who\n\nann:" GOOD_BCRYPT "\r\nbob:" GOOD_BCRYPT, NULL},
        {"a b\xc3\xa4:" GOOD_BCRYPT, NULL},
        {"", "has no user"},
        {"# nobody\n", "has no user"},
        {"ann\n", "users:1: a line is NAME:HASH"},
        {"\n:x\n", "users:2: a line is NAME:HASH"},
        {"ann:\n", "plain text"},
        {"ann:secret\n", "plain text"},
        {"ann:sec ret\n", "not a hash"},
        {"ann:" GOOD_BCRYPT ":x\n", "not a hash"},
        {"ann:" GOOD_BCRYPT " \n", "not a hash"},
        {"ann:$1$salt$abc\n", "MD5"},
        {"ann:$apr1$salt$abc\n", "MD5"},
        {"ann:{SHA}abc=\n", "MD5 or SHA-1"},
        {"ann:$2y$05$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234\n", "cost below 10"},
        {"ann:$2y$31$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234\n", "cost above 14"},
        {"ann:$2y$10$abc\n", "cut or damaged"},
        {"ann:$5$rounds=1000$salt$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvw\n", "cut or damaged"},
        {"ann:$5$rounds=1000$salt$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq\n", "less than 5000"},
        {"ann:$5$rounds=99999999999$salt$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq\n", "less than 5000"},
        {"ann:$5$rounds=2000000$salt$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq\n", "more than 1000000"},
        {"ann:$6$x\n", "cut or damaged"},
        {"ann:$y$j9T$x\n", "cut or damaged"},
        {"a\x01:" GOOD_BCRYPT "\n", "control character"},
        {"ann:" GOOD_BCRYPT "\nann:" GOOD_BCRYPT "\n", "the user ann twice"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct gate_passwords p;
        struct ht_errmsg e = {""};
        int rc = gate_passwords_parse(&p, "users", rows[i].text, strlen(rows[i].text), &e);
        if (rc != (rows[i].says ? HT_EINVAL : 0) || (rows[i].says && !strstr(e.text, rows[i].says)))
            printf("# row %zu: %d %s\n", i, rc, e.text);
        CU_ASSERT(rc == (rows[i].says ? HT_EINVAL : 0) && (!rows[i].says || strstr(e.text, rows[i].says)));
        CU_ASSERT(!strstr(e.text, "secret") && !strstr(e.text, "salt"));
        gate_passwords_free(&p);
    }
    struct gate_passwords p;
    CU_ASSERT_EQUAL(gate_passwords_parse(&p, "users", "a:b\0c\n", 6, NULL), HT_EINVAL);
    gate_passwords_free(&p);
    static const char two[] = "bob:" GOOD_BCRYPT "\nann:" GOOD_BCRYPT "\n";
    CU_ASSERT_EQUAL(gate_passwords_parse(&p, "users", two, strlen(two), NULL), 0);
    CU_ASSERT(gate_passwords_find(&p, ht_slice_str("ann")) && gate_passwords_find(&p, ht_slice_str("bob")));
    CU_ASSERT(!gate_passwords_find(&p, ht_slice_str("an")) && !gate_passwords_find(&p, ht_slice_str("anna")));
    gate_passwords_free(&p);
}

static void hashes_of_our_own(void) {
    char hash[GATE_HASH_MAX], other[GATE_HASH_MAX], line[GATE_HASH_MAX + 8], large[GATE_PASSWORD_MAX + 2];
    struct gate_passwords p;
    struct ht_errmsg e;
    CU_ASSERT_EQUAL_FATAL(gate_password_hash("sesame", hash, &e), 0);
    CU_ASSERT(gate_password_hash("sesame", other, &e) == 0 && strcmp(hash, other) != 0);
    CU_ASSERT(gate_password_fits(hash, "sesame") && !gate_password_fits(hash, "sesam") &&
              !gate_password_fits(hash, ""));
    snprintf(line, sizeof line, "ann:%s\n", hash);
    CU_ASSERT_EQUAL(gate_passwords_parse(&p, "users", line, strlen(line), &e), 0);
    gate_passwords_free(&p);
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    CU_ASSERT(gate_password_hash(large, hash, &e) == HT_EINVAL && strstr(e.text, "at most"));
    CU_ASSERT(gate_user_name_check(ht_slice_str("ann"), &e) == 0 && gate_user_name_check(ht_slice_str(""), &e) < 0 &&
              gate_user_name_check(ht_slice_str("#a"), &e) < 0 && gate_user_name_check(ht_slice_str("a:b"), &e) < 0);
}

static void unsafe_files(void) {
    char name[] = "/tmp/ht-users-XXXXXX";
    struct gate_passwords p;
    struct ht_errmsg e;
    int fd = mkstemp(name);
    static const char text[] = "ann:" GOOD_BCRYPT "\n";
    CU_ASSERT_FATAL(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CU_ASSERT(fchmod(fd, 0640) == 0 && gate_passwords_load(&p, name, &e) == 0);
    gate_passwords_free(&p);
    static const mode_t bad[] = {0644, 0602, 0660, 0601};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT(fchmod(fd, bad[i]) == 0 && gate_passwords_load(&p, name, &e) == HT_EIO &&
                  strstr(e.text, "chmod 600"));
        gate_passwords_free(&p);
    }
    CU_ASSERT(fchmod(fd, 0600) == 0 && ftruncate(fd, GATE_PASSWORDS_FILE + 1) == 0);
    CU_ASSERT(gate_passwords_load(&p, name, &e) == HT_EIO && strstr(e.text, "more than"));
    gate_passwords_free(&p);
    CU_ASSERT(gate_passwords_load(&p, "/", &e) == HT_EIO && strstr(e.text, "is not a file"));
    gate_passwords_free(&p);
    close(fd);
    unlink(name);
    CU_ASSERT(gate_passwords_load(&p, name, &e) == HT_EIO && strstr(e.text, "cannot be opened"));
    gate_passwords_free(&p);
}

/* ---- logins ---- */

struct asked {
    struct gate_login_wait wait;
    int done;
    enum gate_login_result result;
};

static void on_done(struct gate_login_wait *w, enum gate_login_result result) {
    struct asked *a = ht_container_of(w, struct asked, wait);
    a->done = 1;
    a->result = result;
}

static struct gate_login *login_new(const char *user) {
    char text[300];
    struct gate_passwords p;
    snprintf(text, sizeof text, "%s:%s\n", user, sha());
    CU_ASSERT_EQUAL_FATAL(gate_passwords_parse(&p, "users", text, strlen(text), NULL), 0);
    return gate_login_create(loop, &p);
}

static enum gate_login_result ask(struct gate_login *l, struct asked *a, const char *credentials, const char *from,
                                  unsigned *wait_s) {
    char value[256] = "Basic ";
    size_t n = ht_base64_put(value + 6, credentials, strlen(credentials));
    struct io_addr addr;
    *a = (struct asked){.wait.done = on_done};
    ht_list_init(&a->wait.node);
    CU_ASSERT_EQUAL(io_addr_parse(&addr, from, 0), 0);
    return gate_login_ask(l, ht_slice_of(value, 6 + n), &addr, &a->wait, wait_s);
}

static enum gate_login_result ask_and_wait(struct gate_login *l, const char *credentials, const char *from) {
    struct asked a;
    unsigned wait_s;
    enum gate_login_result rc = ask(l, &a, credentials, from, &wait_s);
    if (rc == GATE_LOGIN_ASKED) {
        CU_ASSERT(turn_until(&a.done, PATIENCE_MS));
        rc = a.result;
    }
    return rc;
}

static void logins(void) {
    struct gate_login *l = login_new("ann");
    static const char *const bad[] = {
        "", "Basic", "Basic ", "Basic !", "Basic YTpi====", "Bearer YW5uOnNlc2FtZQ==", "Basic YW5u"};
    struct asked a = {.wait.done = on_done}, b, c;
    unsigned wait_s;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT_EQUAL(gate_login_ask(l, ht_slice_str(bad[i]), NULL, &a.wait, &wait_s), GATE_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:wrong", "192.0.2.1"), GATE_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask_and_wait(l, "eve:sesame", "192.0.2.1"), GATE_LOGIN_BAD);
    /* The same at once: one check serves both, and the one that leaves is told nothing. */
    CU_ASSERT_EQUAL(ask(l, &a, "ann:sesame", "192.0.2.1", &wait_s), GATE_LOGIN_ASKED);
    CU_ASSERT_EQUAL(ask(l, &b, "ann:sesame", "192.0.2.1", &wait_s), GATE_LOGIN_ASKED);
    CU_ASSERT_EQUAL(ask(l, &c, "ann:sesame", "192.0.2.1", &wait_s), GATE_LOGIN_ASKED);
    gate_login_cancel(&c.wait);
    CU_ASSERT(turn_until(&a.done, PATIENCE_MS) && b.done && !c.done && a.result == GATE_LOGIN_GOOD &&
              b.result == GATE_LOGIN_GOOD);
    CU_ASSERT_EQUAL(ask(l, &a, "ann:sesame", "192.0.2.1", &wait_s), GATE_LOGIN_GOOD); /* it is remembered */
    struct gate_passwords p;
    char text[300];
    snprintf(text, sizeof text, "bob:%s\n", sha());
    CU_ASSERT_EQUAL(gate_passwords_parse(&p, "users", text, strlen(text), NULL), 0);
    gate_login_set(l, &p);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:sesame", "192.0.2.1"), GATE_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask(l, &a, "bob:sesame", "192.0.2.1", &wait_s), GATE_LOGIN_ASKED);
    gate_login_cancel(&a.wait);
    gate_login_destroy(&l); /* while a thread works */
}

static void guesses_are_slowed_down(void) {
    struct gate_login *l = login_new("ann");
    static struct asked many[GATE_LOGIN_CHECKS + 8];
    char guess[32];
    unsigned wait_s = 0, asked = 0, slow = 0;
    for (unsigned i = 0; i < 12; i++) { /* at once */
        snprintf(guess, sizeof guess, "ann:%u", i);
        enum gate_login_result rc = ask(l, &many[i], guess, "192.0.2.1", &wait_s);
        asked += rc == GATE_LOGIN_ASKED;
        slow += rc == GATE_LOGIN_SLOW;
    }
    CU_ASSERT(asked == GATE_LOGIN_FREE + 1 && slow == 12 - asked && wait_s == 1);
    for (unsigned i = 0; i < asked; i++)
        CU_ASSERT(turn_until(&many[i].done, PATIENCE_MS) && many[i].result == GATE_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask(l, &many[0], "ann:sesame", "192.0.2.1", &wait_s), GATE_LOGIN_SLOW);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:sesame", "192.0.2.2"), GATE_LOGIN_GOOD);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:sesame", "192.0.2.1"),
                    GATE_LOGIN_GOOD); /* remembered: the brake is not asked */
    CU_ASSERT_EQUAL(ask(l, &many[0], "ann:else", "192.0.2.1", &wait_s), GATE_LOGIN_SLOW);
    gate_login_destroy(&l);
    /* From many addresses: more than can be checked are turned away. */
    l = login_new("ann");
    unsigned busy = 0;
    for (unsigned i = 0; i < HT_ARRAY_LEN(many); i++) {
        char from[32];
        snprintf(guess, sizeof guess, "ann:%u", i);
        snprintf(from, sizeof from, "198.51.100.%u", i);
        busy += ask(l, &many[i], guess, from, &wait_s) == GATE_LOGIN_BUSY;
    }
    CU_ASSERT_EQUAL(busy, HT_ARRAY_LEN(many) - GATE_LOGIN_CHECKS);
    for (unsigned i = 0; i < GATE_LOGIN_CHECKS; i++)
        gate_login_cancel(&many[i].wait);
    gate_login_destroy(&l);
}

/* ---- pages ---- */

static void pages(void) {
    char name[] = "/tmp/ht-page-XXXXXX.html", text[80];
    int fd = mkstemps(name, 5);
    static const char page[] = "{status} {title} {code} {message} {x} {";
    struct gate_pages p;
    struct ht_errmsg e;
    struct ht_buf b = {0};
    CU_ASSERT_FATAL(fd >= 0 && write(fd, page, strlen(page)) == (ssize_t)strlen(page));
    snprintf(text, sizeof text, "502=%s", name);
    const char *both[] = {name, text};
    CU_ASSERT_EQUAL_FATAL(gate_pages_load(&p, both, 2, &e), 0);
    CU_ASSERT_PTR_EQUAL(gate_pages_find(&p, 502, RELAY_HTML), &p.pages[1]);
    CU_ASSERT_PTR_EQUAL(gate_pages_find(&p, 403, RELAY_HTML), &p.pages[0]);
    CU_ASSERT_PTR_NULL(gate_pages_find(&p, 403, RELAY_TEXT));
    CU_ASSERT_EQUAL(gate_page_put(&p.pages[0], &b, 502, "a-code", "<b>\"&'"), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&b), "502 Bad Gateway a-code &lt;b&gt;&quot;&amp;&#39; {x} {"));
    p.pages[0].form = RELAY_JSON;
    b.off = b.len = 0;
    CU_ASSERT_EQUAL(gate_page_put(&p.pages[0], &b, 502, "a-code", "\"\\\n"), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&b), "502 Bad Gateway a-code \\\"\\\\\\u000a {x} {"));
    gate_pages_free(&p);
    /* One whose placeholders would fill memory. */
    CU_ASSERT(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    for (unsigned i = 0; i < GATE_PAGE_FILE / 10; i++)
        CU_ASSERT_EQUAL_FATAL(write(fd, "{message} ", 10), 10);
    CU_ASSERT_EQUAL(gate_pages_load(&p, both, 1, &e), 0);
    b.off = b.len = 0;
    CU_ASSERT_EQUAL(gate_page_put(&p.pages[0], &b, 502, "a-code", "a message of which there are very many here"),
                    HT_ESPACE);
    gate_pages_free(&p);
    CU_ASSERT_EQUAL(ftruncate(fd, GATE_PAGE_FILE + 1), 0);
    CU_ASSERT(gate_pages_load(&p, both, 1, &e) == HT_EIO && strstr(e.text, "more than"));
    gate_pages_free(&p);
    static const char *const bad[] = {"", "=x", "600=x", "5020=x", "502=", "/nonexistent"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT(gate_pages_load(&p, &bad[i], 1, &e) < 0);
        gate_pages_free(&p);
    }
    ht_buf_free(&b);
    close(fd);
    unlink(name);
}

static const struct tap_test tests[] = {
    {"files of users: hostile lines, weak hashes", files_of_users},
    {"hashes of our own fit their passwords alone", hashes_of_our_own},
    {"a file that others can read or change is refused", unsafe_files},
    {"logins are checked on threads and remembered", logins},
    {"guesses are slowed down by address, and bounded for all", guesses_are_slowed_down},
    {"pages for errors", pages},
    {NULL, NULL},
};

int main(void) {
    loop = io_loop_create();
    int rc = tap_main("gate, login", tests);
    turns(2);
    io_loop_destroy(&loop);
    return rc;
}
