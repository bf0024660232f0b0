/* A shared object that is no executor. */
__attribute__((visibility("default"))) int pl_no_executor = 1;
