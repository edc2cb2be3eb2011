/* Pulling an image, from a registry of a few lines in a child of this process. */
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char place[] = "/tmp/stockade-pull-XXXXXX";
static char manifest[80];

static const char *at(const char *name)
{
    static char paths[4][400];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", place, name);
    return path;
}

static size_t contents(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    size_t n;
    if (file == NULL)
        return 0;
    n = fread(text, 1, size - 1, file);
    text[n] = 0;
    fclose(file);
    return n;
}

/* Answers one request with a blob of the layout, and goes. */
static void answer(int client)
{
    static char request[4096], body[100000];
    char head[200], path[400], *name;
    size_t n = 0, length = 0;
    ssize_t got;
    do {
        got = read(client, request + n, sizeof request - 1 - n);
        n += got > 0 ? (size_t)got : 0;
        request[n] = 0;
        /* It speaks no TLS, and ends such a connection so rudely that a write to it would raise SIGPIPE. */
        if (request[0] == 0x16) {
            struct linger now = {1, 0};
            setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            return;
        }
    } while (got > 0 && strstr(request, "\r\n\r\n") == NULL);
    name = strstr(request, " HTTP/1.1");
    if (name != NULL) {
        *name = 0;
        name = strrchr(request, '/') + 1;
        if (strcmp(name, "1") == 0)
            name = manifest;
        if (strncmp(name, "sha256:", 7) == 0) {
            snprintf(path, sizeof path, "%s/layout/blobs/sha256/%.64s", place, name + 7);
            length = contents(path, body, sizeof body);
        }
    }
    snprintf(head, sizeof head, "HTTP/1.1 %d Word\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
             length > 0 ? 200 : 404, length);
    if (write(client, head, strlen(head)) < 0 || write(client, body, length) < 0)
        return;
}

static pid_t serve(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pid_t child;
    CHECK(bind(server, (struct sockaddr *)&address, size) == 0 && listen(server, 10) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&address, &size) == 0);
    *port = ntohs(address.sin_port);
    child = fork();
    CHECK(child >= 0);
    while (child == 0) {
        int client = accept(server, NULL, NULL);
        answer(client);
        close(client);
    }
    close(server);
    return child;
}

static void make_image(void)
{
    static char index[10000];
    stockade_store *store = NULL;
    char *json = NULL, *digest;
    FILE *file;
    CHECK(mkdir(at("rootfs"), 0755) == 0);
    file = fopen(at("rootfs/file"), "w");
    CHECK(file != NULL);
    fprintf(file, "%1000s\n", "hello");
    CHECK(fclose(file) == 0);
    WORKS(stockade_store_open(at("source"), &store, &failed));
    WORKS(stockade_store_import(store, at("rootfs"), "c:1", NULL, NULL, NULL, &json, &failed));
    stockade_string_free(json);
    WORKS(stockade_store_save(store, "c:1", "oci-dir", at("layout"), NULL, NULL, &failed));
    stockade_store_free(store);
    CHECK(contents(at("layout/index.json"), index, sizeof index) > 0);
    digest = strstr(index, "sha256:");
    CHECK(digest != NULL);
    snprintf(manifest, sizeof manifest, "%.71s", digest);
}

static pthread_t caller;

static int progress(const char *what, uint64_t done, uint64_t total, void *data)
{
    CHECK(pthread_equal(caller, pthread_self()));
    CHECK(total == 0 || done <= total);
    *(int *)data |= strcmp(what, "download 1/1") == 0 ? 1 : strcmp(what, "layer 1/1") == 0 ? 2 : 4;
    return 0;
}

static int stop(const char *what, uint64_t done, uint64_t total, void *data)
{
    (void)what, (void)done, (void)total, (void)data;
    return 1;
}

int main(void)
{
    stockade_store *store = NULL;
    stockade_pull *pull = stockade_pull_new();
    char *json = NULL, name[100], command[sizeof place + 10];
    int port, seen = 0;
    pid_t server;

    CHECK(mkdtemp(place) != NULL);
    caller = pthread_self();
    make_image();
    server = serve(&port);
    snprintf(name, sizeof name, "127.0.0.1:%d/c/c:1", port);
    WORKS(stockade_store_open(at("store"), &store, &failed));

    CHECK(stockade_pull_set_auth_file(pull, "/dev/null") == STOCKADE_OK);
    CHECK(stockade_pull_set_tls_verify(pull, true) == STOCKADE_OK);
    CHECK(stockade_pull_set_max_concurrent_downloads(pull, 2) == STOCKADE_OK);
    CHECK(stockade_pull_set_retry(pull, 1) == STOCKADE_OK);
    CHECK(stockade_pull_set_timeout(pull, 10 * SECOND) == STOCKADE_OK);
    CHECK(stockade_pull_set_credentials(pull, "me", "secret") == STOCKADE_OK);
    CHECK(stockade_pull_add_mirror(pull, "127.0.0.1:1") == STOCKADE_OK);
    WORKS(stockade_store_pull(store, name, pull, progress, &seen, &json, &failed));
    CHECK(strstr(json, manifest) != NULL && strstr(json, name) != NULL);
    CHECK((seen & 3) == 3);
    stockade_string_free(json);
    WORKS(stockade_store_verify(store, &json, &failed));
    CHECK(strstr(json, "\"layers\":1,\"problems\":[]") != NULL);
    stockade_string_free(json);
    WORKS(stockade_store_remove(store, name, &json, &failed));
    stockade_string_free(json);

    FAILS(stockade_store_pull(store, name, pull, stop, NULL, &json, &failed), STOCKADE_ERROR_STATE, "called off");
    CHECK(json == NULL);
    FAILS(stockade_store_pull(store, "127.0.0.1:1/c", pull, NULL, NULL, &json, &failed), STOCKADE_ERROR_REGISTRY, "127.0.0.1:1");
    snprintf(name, sizeof name, "127.0.0.1:%d/c/c:2", port);
    FAILS(stockade_store_pull(store, name, pull, NULL, NULL, &json, &failed), STOCKADE_ERROR_NOT_FOUND, "no such image");
    CHECK(stockade_pull_set_platform(pull, "plan9/mips") == STOCKADE_OK);
    FAILS(stockade_store_pull(store, name, pull, NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "plan9");
    FAILS(stockade_store_pull(store, NULL, NULL, NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`name` is NULL");
    FAILS(stockade_store_pull(NULL, name, NULL, NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`store` is NULL");
    /* A setter that was refused is not forgotten. */
    CHECK(stockade_pull_set_identity_token(pull, NULL) == STOCKADE_ERROR_INVALID_ARGUMENT);
    CHECK(stockade_pull_set_ca_file(pull, "/dev/null") == STOCKADE_OK);
    CHECK(stockade_pull_set_retry(NULL, 1) == STOCKADE_ERROR_INVALID_ARGUMENT);
    FAILS(stockade_store_pull(store, name, pull, NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`token` is NULL");

    stockade_pull_free(pull);
    stockade_pull_free(NULL);
    stockade_store_free(store);
    CHECK(kill(server, SIGKILL) == 0 && waitpid(server, NULL, 0) == server);
    snprintf(command, sizeof command, "rm -rf %s", place);
    return system(command) == 0 ? 0 : 1;
}
