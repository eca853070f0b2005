/* Session tickets (RFC 5077 4, RFC 8446 4.6.1). With a key one could decrypt the sessions that its tickets resume, so
 * keys live for a short time, in locked memory, and are wiped. */
#include "base/clock.h"
#include "io/tls_server_priv.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/mman.h>

struct ticket_key {
    uint8_t name[16], seal[32], mac[32];
    uint64_t made_ms; /* 0: there is none */
};

struct io_tickets {
    struct ticket_key now, before;
};

struct io_tickets *io_tickets_create(void) {
    struct io_tickets *t =
        mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* a page of its own */
    if (t == MAP_FAILED)
        return NULL;
    (void)mlock(t, sizeof *t); /* if the system allows no locked memory, the keys are used all the same */
    (void)madvise(t, sizeof *t, MADV_DONTDUMP);
    return t;
}

void io_tickets_destroy(struct io_tickets **tp) {
    struct io_tickets *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    explicit_bzero(t, sizeof *t);
    munmap(t, sizeof *t);
}

/* The key for new tickets. */
static const struct ticket_key *present(struct io_tickets *t) {
    uint64_t now = ht_now_ms();
    if (t->now.made_ms && now - t->now.made_ms < IO_TICKET_KEY_S * UINT64_C(1000))
        return &t->now;
    t->before = t->now;
    ht_random_bytes(&t->now, sizeof t->now);
    t->now.made_ms = now ? now : 1;
    return &t->now;
}

/* The key of a ticket; NULL: it is unknown or too old. */
static const struct ticket_key *find(struct io_tickets *t, const unsigned char name[16]) {
    const struct ticket_key *keys[] = {present(t), &t->before};
    for (size_t i = 0; i < HT_ARRAY_LEN(keys); i++)
        if (keys[i]->made_ms && memcmp(keys[i]->name, name, 16) == 0 &&
            ht_now_ms() - keys[i]->made_ms < 2 * IO_TICKET_KEY_S * UINT64_C(1000))
            return keys[i];
    return NULL;
}

/* See SSL_CTX_set_tlsext_ticket_key_evp_cb(3). -1: error. 0: the key is unknown. 1: done. 2: done, and the client gets
 * a new ticket. */
static int with_key(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                    int sealing) {
    struct io_tickets *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const struct ticket_key *k = sealing ? present(t) : find(t, name);
    char digest[] = "SHA256";
    if (!k)
        return 0;
    if (sealing) {
        memcpy(name, k->name, sizeof k->name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
    }
    union { /* OSSL_PARAM has no const; the key is only read */
        const uint8_t *in;
        uint8_t *out;
    } secret = {.in = k->mac};
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret.out, sizeof k->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->seal, iv, sealing) != 1 ||
        EVP_MAC_CTX_set_params(mac, params) != 1)
        return -1;
    /* With TLS 1.3 a client uses each ticket only once (RFC 8446 C.4), so it always gets a new one. */
    return sealing || (k == &t->now && SSL_version(ssl) < TLS1_3_VERSION) ? 1 : 2;
}

bool io_tickets_use(struct io_tickets *t, SSL_CTX *ctx) {
    SSL_CTX_set_app_data(ctx, t);
    SSL_CTX_set_timeout(ctx, IO_TICKET_KEY_S);
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, with_key) == 1;
}
