/* Containers: what documents and the address book say of them, and the maps that are made of both. No other room
 * includes it. */
#ifndef HT_EDGE_CONTAINERS_H
#define HT_EDGE_CONTAINERS_H

#include "edge/edge_priv.h"
#include "edge/state.h"
#include "json/json.h"

struct edge_containers;

struct edge_containers_config {
    struct io_loop *loop;
    struct edge_state *state;
    struct edge_maps *maps;
    struct edge_book *const *book; /* the present one; *book may be NULL */
};

/* Makes the maps so, and keeps them so when documents change. NULL: no memory. It ends before the state and the maps
 * do. */
struct edge_containers *edge_containers_create(const struct edge_containers_config *cfg) HT_MUST_USE;
/* Another address book was loaded. HT_OK, or HT_ENOMEM: it is tried again by itself. */
int edge_containers_again(struct edge_containers *c);
/* Clears the pointer. NULL is ignored. */
void edge_containers_destroy(struct edge_containers **c);

struct edge_container {
    char id[EDGE_ID + 1], project[EDGE_ID + 1], ip[IO_ADDR_TEXT], scope[EDGE_SCOPE];
    bool from_file;             /* the file says where it is and which services it has */
    bool enabled;               /* neither document nor file has switched it off; of its project nothing is said */
    const struct edge_doc *doc; /* NULL: there is none */
};

/* False: nobody says where it is. *out has what is known all the same; out->doc may be there, and ip or project be "".
 */
bool edge_container_find(const struct edge_containers *c, const char *id, struct edge_container *out);
/* Whether a project is switched on by documents and file. */
bool edge_project_on(const struct edge_containers *c, const char *project);

/* ---- parts of documents ---- */

/* Whether `enable_proxy` is true, or not there; d may be NULL. */
bool edge_doc_on(const struct edge_doc *d);
/* Reads an object of ports by name. */
struct edge_services_reader {
    struct json_reader r;
    int rc;
};
void edge_services_begin(struct edge_services_reader *r, struct ht_slice json);
/* 1: a service. 0: there are no more. HT_EINVAL: it is no such object; nothing is read then. */
int edge_services_next(struct edge_services_reader *r, char name[EDGE_SERVICE], unsigned *port) HT_MUST_USE;
/* Calls each() for the document's own services, and with port 0 for those that it has switched off. d may be NULL. */
void edge_container_services(const struct edge_doc *d, void (*each)(void *ctx, const char *name, unsigned port),
                             void *ctx);
void edge_container_off(const struct edge_doc *d, void (*each)(void *ctx, const char *name, unsigned port), void *ctx);

#endif
