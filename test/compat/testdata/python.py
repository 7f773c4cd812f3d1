import multiprocessing
import os

print("cpu_count", os.cpu_count())
print("sched_getaffinity", len(os.sched_getaffinity(0)))
print("multiprocessing", multiprocessing.cpu_count())
print("getloadavg", os.getloadavg()[0])
print("PHYS_PAGES", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
