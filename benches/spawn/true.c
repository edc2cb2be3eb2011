/* The static payload: what a program costs that has nothing to link and nothing to do. */
int main(void) { return 0; }
