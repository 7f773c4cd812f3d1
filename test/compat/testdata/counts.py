import psutil

print("cpu_count", psutil.cpu_count())
print("physical", psutil.cpu_count(logical=False))
print("cpu_times", len(psutil.cpu_times(percpu=True)))
print("total", psutil.virtual_memory().total)
print("swap", psutil.swap_memory().total)
print("getloadavg", psutil.getloadavg()[0])
print("boot_time", psutil.boot_time())
disks = psutil.disk_io_counters(nowrap=False)
print("write_bytes", disks.write_bytes if disks else 0)
