/* A shared object that is no executor. */
__attribute__((visibility("default"))) int pl_not_an_entry(void);

int
pl_not_an_entry(void)
{
    return 0;
}
