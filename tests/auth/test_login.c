/* Files of users, and logins on threads. */
#include "auth/login.h"

#include "base/base64.h"
#include "io/net_support.h"

#include "support/clock_still.h"

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
        struct auth_passwords p;
        struct ht_errmsg e = {""};
        int rc = auth_passwords_parse(&p, "users", rows[i].text, strlen(rows[i].text), &e);
        if (rc != (rows[i].says ? HT_EINVAL : 0) || (rows[i].says && !strstr(e.text, rows[i].says)))
            printf("# row %zu: %d %s\n", i, rc, e.text);
        CU_ASSERT(rc == (rows[i].says ? HT_EINVAL : 0) && (!rows[i].says || strstr(e.text, rows[i].says)));
        CU_ASSERT(!strstr(e.text, "secret") && !strstr(e.text, "salt"));
        auth_passwords_free(&p);
    }
    struct auth_passwords p;
    CU_ASSERT_EQUAL(auth_passwords_parse(&p, "users", "a:b\0c\n", 6, NULL), HT_EINVAL);
    auth_passwords_free(&p);
    static const char two[] = "bob:" GOOD_BCRYPT "\nann:" GOOD_BCRYPT "\n";
    CU_ASSERT_EQUAL(auth_passwords_parse(&p, "users", two, strlen(two), NULL), 0);
    CU_ASSERT(auth_passwords_find(&p, ht_slice_str("ann")) && auth_passwords_find(&p, ht_slice_str("bob")));
    CU_ASSERT(!auth_passwords_find(&p, ht_slice_str("an")) && !auth_passwords_find(&p, ht_slice_str("anna")));
    auth_passwords_free(&p);
}

static void hashes_of_our_own(void) {
    char hash[AUTH_HASH_MAX], other[AUTH_HASH_MAX], line[AUTH_HASH_MAX + 8], large[AUTH_PASSWORD_MAX + 2];
    struct auth_passwords p;
    struct ht_errmsg e;
    CU_ASSERT_EQUAL_FATAL(auth_password_hash("sesame", hash, &e), 0);
    CU_ASSERT(auth_password_hash("sesame", other, &e) == 0 && strcmp(hash, other) != 0);
    CU_ASSERT(auth_password_fits(hash, "sesame") && !auth_password_fits(hash, "sesam") &&
              !auth_password_fits(hash, ""));
    snprintf(line, sizeof line, "ann:%s\n", hash);
    CU_ASSERT_EQUAL(auth_passwords_parse(&p, "users", line, strlen(line), &e), 0);
    auth_passwords_free(&p);
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    CU_ASSERT(auth_password_hash(large, hash, &e) == HT_EINVAL && strstr(e.text, "at most"));
    CU_ASSERT(auth_user_name_check(ht_slice_str("ann"), &e) == 0 && auth_user_name_check(ht_slice_str(""), &e) < 0 &&
              auth_user_name_check(ht_slice_str("#a"), &e) < 0 && auth_user_name_check(ht_slice_str("a:b"), &e) < 0);
}

static void unsafe_files(void) {
    char name[] = "/tmp/ht-users-XXXXXX";
    struct auth_passwords p;
    struct ht_errmsg e;
    int fd = mkstemp(name);
    static const char text[] = "ann:" GOOD_BCRYPT "\n";
    CU_ASSERT_FATAL(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CU_ASSERT(fchmod(fd, 0640) == 0 && auth_passwords_load(&p, name, &e) == 0);
    auth_passwords_free(&p);
    static const mode_t bad[] = {0644, 0602, 0660, 0601};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT(fchmod(fd, bad[i]) == 0 && auth_passwords_load(&p, name, &e) == HT_EIO &&
                  strstr(e.text, "chmod 600"));
        auth_passwords_free(&p);
    }
    CU_ASSERT(fchmod(fd, 0600) == 0 && ftruncate(fd, AUTH_PASSWORDS_FILE + 1) == 0);
    CU_ASSERT(auth_passwords_load(&p, name, &e) == HT_EIO && strstr(e.text, "more than"));
    auth_passwords_free(&p);
    CU_ASSERT(auth_passwords_load(&p, "/", &e) == HT_EIO && strstr(e.text, "is not a file"));
    auth_passwords_free(&p);
    close(fd);
    unlink(name);
    CU_ASSERT(auth_passwords_load(&p, name, &e) == HT_EIO && strstr(e.text, "cannot be opened"));
    auth_passwords_free(&p);
}

/* ---- logins ---- */

struct asked {
    struct auth_login_wait wait;
    int done;
    enum auth_login_result result;
};

static void on_done(struct auth_login_wait *w, enum auth_login_result result) {
    struct asked *a = ht_container_of(w, struct asked, wait);
    a->done = 1;
    a->result = result;
}

static struct auth_login *login_new(const char *user) {
    char text[300];
    struct auth_passwords p;
    snprintf(text, sizeof text, "%s:%s\n", user, sha());
    CU_ASSERT_EQUAL_FATAL(auth_passwords_parse(&p, "users", text, strlen(text), NULL), 0);
    return auth_login_create(loop, &p);
}

static enum auth_login_result ask(struct auth_login *l, struct asked *a, const char *credentials, const char *from,
                                  unsigned *wait_s) {
    char value[256] = "Basic ";
    size_t n = ht_base64_put(value + 6, credentials, strlen(credentials));
    struct io_addr addr;
    *a = (struct asked){.wait.done = on_done};
    ht_list_init(&a->wait.node);
    CU_ASSERT_EQUAL(io_addr_parse(&addr, from, 0), 0);
    return auth_login_ask(l, ht_slice_of(value, 6 + n), &addr, &a->wait, wait_s);
}

static enum auth_login_result ask_and_wait(struct auth_login *l, const char *credentials, const char *from) {
    struct asked a;
    unsigned wait_s;
    enum auth_login_result rc = ask(l, &a, credentials, from, &wait_s);
    if (rc == AUTH_LOGIN_ASKED) {
        CU_ASSERT(turn_until(&a.done, PATIENCE_MS));
        rc = a.result;
    }
    return rc;
}

static void logins(void) {
    struct auth_login *l = login_new("ann");
    static const char *const bad[] = {
        "", "Basic", "Basic ", "Basic !", "Basic YTpi====", "Bearer YW5uOnNlc2FtZQ==", "Basic YW5u"};
    struct asked a = {.wait.done = on_done}, b, c;
    unsigned wait_s;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT_EQUAL(auth_login_ask(l, ht_slice_str(bad[i]), NULL, &a.wait, &wait_s), AUTH_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:wrong", "192.0.2.1"), AUTH_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask_and_wait(l, "eve:sesame", "192.0.2.1"), AUTH_LOGIN_BAD);
    /* The same at once: one check serves both, and the one that leaves is told nothing. */
    CU_ASSERT_EQUAL(ask(l, &a, "ann:sesame", "192.0.2.1", &wait_s), AUTH_LOGIN_ASKED);
    CU_ASSERT_EQUAL(ask(l, &b, "ann:sesame", "192.0.2.1", &wait_s), AUTH_LOGIN_ASKED);
    CU_ASSERT_EQUAL(ask(l, &c, "ann:sesame", "192.0.2.1", &wait_s), AUTH_LOGIN_ASKED);
    auth_login_cancel(&c.wait);
    CU_ASSERT(turn_until(&a.done, PATIENCE_MS) && b.done && !c.done && a.result == AUTH_LOGIN_GOOD &&
              b.result == AUTH_LOGIN_GOOD);
    CU_ASSERT_EQUAL(ask(l, &a, "ann:sesame", "192.0.2.1", &wait_s), AUTH_LOGIN_GOOD); /* it is remembered */
    struct auth_passwords p;
    char text[300];
    snprintf(text, sizeof text, "bob:%s\n", sha());
    CU_ASSERT_EQUAL(auth_passwords_parse(&p, "users", text, strlen(text), NULL), 0);
    auth_login_set(l, &p);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:sesame", "192.0.2.1"), AUTH_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask(l, &a, "bob:sesame", "192.0.2.1", &wait_s), AUTH_LOGIN_ASKED);
    auth_login_cancel(&a.wait);
    auth_login_destroy(&l); /* while a thread works */
}

static void guesses_are_slowed_down(void) {
    struct auth_login *l = login_new("ann");
    static struct asked many[AUTH_LOGIN_CHECKS + 8];
    char guess[32];
    unsigned wait_s = 0, asked = 0, slow = 0;
    for (unsigned i = 0; i < 12; i++) { /* at once */
        snprintf(guess, sizeof guess, "ann:%u", i);
        enum auth_login_result rc = ask(l, &many[i], guess, "192.0.2.1", &wait_s);
        asked += rc == AUTH_LOGIN_ASKED;
        slow += rc == AUTH_LOGIN_SLOW;
    }
    CU_ASSERT(asked == AUTH_LOGIN_FREE + 1 && slow == 12 - asked && wait_s == 1);
    for (unsigned i = 0; i < asked; i++)
        CU_ASSERT(turn_until(&many[i].done, PATIENCE_MS) && many[i].result == AUTH_LOGIN_BAD);
    CU_ASSERT_EQUAL(ask(l, &many[0], "ann:sesame", "192.0.2.1", &wait_s), AUTH_LOGIN_SLOW);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:sesame", "192.0.2.2"), AUTH_LOGIN_GOOD);
    CU_ASSERT_EQUAL(ask_and_wait(l, "ann:sesame", "192.0.2.1"),
                    AUTH_LOGIN_GOOD); /* remembered: the brake is not asked */
    CU_ASSERT_EQUAL(ask(l, &many[0], "ann:else", "192.0.2.1", &wait_s), AUTH_LOGIN_SLOW);
    auth_login_destroy(&l);
    /* From many addresses: more than can be checked are turned away. */
    l = login_new("ann");
    unsigned busy = 0;
    for (unsigned i = 0; i < HT_ARRAY_LEN(many); i++) {
        char from[32];
        snprintf(guess, sizeof guess, "ann:%u", i);
        snprintf(from, sizeof from, "198.51.100.%u", i);
        busy += ask(l, &many[i], guess, from, &wait_s) == AUTH_LOGIN_BUSY;
    }
    CU_ASSERT_EQUAL(busy, HT_ARRAY_LEN(many) - AUTH_LOGIN_CHECKS);
    for (unsigned i = 0; i < AUTH_LOGIN_CHECKS; i++)
        auth_login_cancel(&many[i].wait);
    auth_login_destroy(&l);
}

/* Hashes of the caller's own, each with what is guessed at. */
static enum auth_login_result check(struct auth_login *l, struct asked *a, struct auth_claim claim, const char *from) {
    struct io_addr addr;
    unsigned wait_s = 0;
    *a = (struct asked){.wait.done = on_done};
    ht_list_init(&a->wait.node);
    CU_ASSERT_EQUAL(io_addr_parse(&addr, from, 0), 0);
    enum auth_login_result rc = auth_login_check(l, &claim, &addr, &a->wait, &wait_s);
    CU_ASSERT((rc == AUTH_LOGIN_SLOW) == (wait_s > 0));
    return rc;
}

static void claims_have_scopes(void) {
    struct auth_passwords none = {.n = 0};
    struct auth_login *l = auth_login_create(loop, &none);
    static struct asked many[AUTH_LOGIN_CHECKS];
    struct asked a;
    struct io_addr addr;
    char guess[16], from[32];
    unsigned wait_s;
    struct auth_claim good = {sha(), ht_slice_str("ann"), ht_slice_str("sesame"), ht_slice_str("one")}, bad = good;
    CU_ASSERT_PTR_NOT_NULL_FATAL(l);
    CU_ASSERT_EQUAL(io_addr_parse(&addr, "192.0.2.1", 0), 0);
    CU_ASSERT_FALSE(auth_login_known(l, &good));
    CU_ASSERT_EQUAL(check(l, &a, good, "192.0.2.1"), AUTH_LOGIN_ASKED);
    CU_ASSERT(turn_until(&a.done, PATIENCE_MS) && a.result == AUTH_LOGIN_GOOD);
    CU_ASSERT(auth_login_known(l, &good) && check(l, &a, good, "192.0.2.9") == AUTH_LOGIN_GOOD);
    /* The right password of nobody, and of somebody else. */
    bad.hash = NULL;
    CU_ASSERT_EQUAL(check(l, &a, bad, "192.0.2.1"), AUTH_LOGIN_ASKED);
    CU_ASSERT(turn_until(&a.done, PATIENCE_MS) && a.result == AUTH_LOGIN_BAD);
    bad = good;
    bad.name = ht_slice_str("bob");
    CU_ASSERT_FALSE(auth_login_known(l, &bad));
    /* Who guesses at one waits there alone, and so do guesses of another kind. */
    for (unsigned i = 0; i < 2 * AUTH_LOGIN_FREE; i++)
        auth_login_failed(l, good.scope, &addr);
    CU_ASSERT(auth_login_waits(l, good.scope, &addr, &wait_s) && wait_s > 1);
    CU_ASSERT_EQUAL(check(l, &a, bad, "192.0.2.1"), AUTH_LOGIN_SLOW);
    CU_ASSERT_EQUAL(check(l, &a, good, "192.0.2.1"), AUTH_LOGIN_GOOD); /* it is remembered */
    CU_ASSERT_FALSE(auth_login_waits(l, ht_slice_str("two"), &addr, &wait_s));
    bad.scope = ht_slice_str("two");
    CU_ASSERT_EQUAL(check(l, &a, bad, "192.0.2.1"), AUTH_LOGIN_ASKED);
    CU_ASSERT(turn_until(&a.done, PATIENCE_MS) && a.result == AUTH_LOGIN_GOOD); /* the name is the caller's affair */
    /* A scope that is guessed at from everywhere leaves room for the others. */
    bad.scope = ht_slice_str("three");
    bad.password = ht_slice_str(guess);
    for (unsigned i = 0; i < AUTH_LOGIN_CHECKS; i++) {
        snprintf(guess, sizeof guess, "%u", i);
        bad.password.n = strlen(guess);
        snprintf(from, sizeof from, "198.51.100.%u", i);
        CU_ASSERT_EQUAL(check(l, &many[i], bad, from),
                        i < AUTH_LOGIN_SCOPE_CHECKS ? AUTH_LOGIN_ASKED : AUTH_LOGIN_BUSY);
    }
    bad.scope = ht_slice_str("four");
    CU_ASSERT_EQUAL(check(l, &a, bad, "192.0.2.3"), AUTH_LOGIN_ASKED);
    auth_login_cancel(&a.wait);
    for (unsigned i = 0; i < AUTH_LOGIN_SCOPE_CHECKS; i++)
        auth_login_cancel(&many[i].wait);
    auth_login_destroy(&l);
}

static const struct tap_test tests[] = {
    {"files of users: hostile lines, weak hashes", files_of_users},
    {"hashes of our own fit their passwords alone", hashes_of_our_own},
    {"a file that others can read or change is refused", unsafe_files},
    {"logins are checked on threads and remembered", logins},
    {"guesses are slowed down by address, and bounded for all", guesses_are_slowed_down},
    {"claims: hashes of the caller, each scope slowed down and bounded by itself", claims_have_scopes},
    {NULL, NULL},
};

int main(void) {
    loop = io_loop_create();
    int rc = tap_main("auth, login", tests);
    turns(2);
    io_loop_destroy(&loop);
    return rc;
}
