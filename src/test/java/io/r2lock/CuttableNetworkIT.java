package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class CuttableNetworkIT {

    private static List<String> mine() {
        String pid = "-" + ProcessHandle.current().pid() + "-";
        return CuttableNetwork.names().stream()
                .filter(name -> name.contains(pid))
                .toList();
    }

    @Test
    void eachHasAddressesOfItsOwn_andLeavesNothing_norDoesADeadRun() throws IOException, InterruptedException {
        List<String> before;
        String leftOver;
        try (CuttableNetwork one = CuttableNetwork.create()) {
            before = mine();
            leftOver = "r2lock-0-" + deadProcess() + "-client";
            assertThat(new ProcessBuilder("ip", "netns", "add", leftOver)
                            .start()
                            .waitFor(10, TimeUnit.SECONDS))
                    .isTrue();
            assertThat(CuttableNetwork.names()).contains(leftOver);
            try (CuttableNetwork other = CuttableNetwork.create()) {
                assertThat(other.serverHost()).isNotEqualTo(one.serverHost());
                assertThat(CuttableNetwork.names()).doesNotContain(leftOver);
                assertThat(mine()).hasSize(before.size() + 2);
                other.cut();
                other.cutPort(1);
                other.heal();
                other.heal();
            }
            assertThat(mine()).isEqualTo(before);
        }
        assertThat(mine()).hasSize(before.size() - 2);
    }

    private static long deadProcess() throws IOException, InterruptedException {
        Process process = new ProcessBuilder("true").start();
        assertThat(process.waitFor(10, TimeUnit.SECONDS)).isTrue();
        return process.pid();
    }
}
