package e2e

const rootfsName = "rootfs"
