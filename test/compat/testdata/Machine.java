import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;

/** What the JVM tells programs of the machine. */
class Machine {
    public static void main(String[] args) {
        OperatingSystemMXBean os = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        System.out.println("availableProcessors " + Runtime.getRuntime().availableProcessors());
        System.out.println("totalMemorySize " + os.getTotalMemorySize());
        System.out.println("totalSwapSpaceSize " + os.getTotalSwapSpaceSize());
        System.out.println("systemLoadAverage " + os.getSystemLoadAverage());
        System.out.println("maxMemory " + Runtime.getRuntime().maxMemory());
    }
}
