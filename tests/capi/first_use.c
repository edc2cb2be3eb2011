/* Eight threads race for the first use of the library: one supervisor is started, and every run is right. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 8 };

static pthread_barrier_t start;

static void *work(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&start);
    check_says("echo first", "first\n");
    return NULL;
}

static int children(void)
{
    char path[64], text[256] = "";
    int count = 0;
    char *word;
    FILE *file;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    file = fopen(path, "r");
    CHECK(file != NULL);
    if (fgets(text, sizeof text, file) != NULL)
        for (word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
            count++;
    fclose(file);
    return count;
}

int main(void)
{
    pthread_t threads[THREADS];
    int i;
    CHECK(pthread_barrier_init(&start, NULL, THREADS) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    /* Children belong to the thread that made them, or to the first one left when that has ended. */
    CHECK(children() == 1);
    pthread_barrier_destroy(&start);
    return 0;
}
