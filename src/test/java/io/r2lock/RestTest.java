package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A lock that has been passed on as often as it may be is free for a while, so that other processes, which poll, can have it. */
class RestTest {

    /** Of {@link FakeConnection#options}. */
    private static final int LIMIT = 64;

    private final FakeClient client = new FakeClient();

    @AfterEach
    void close() {
        client.close();
    }

    @Test
    void afterTheLimit_nobodyHereAsksForTheLock_untilAnEighthOfItsTimeIsOver() {
        FakeSession server = client.open();
        List<FakeCaller> callers = new ArrayList<>();
        for (int i = 0; i < LIMIT + 2; i++) {
            callers.add(client.acquire());
        }
        client.clock.advanceTimeBy(Duration.ofMillis(800));
        for (int i = 0; i < LIMIT; i++) {
            callers.get(i).release();
            callers.get(i + 1).assertToldOnce();
        }
        int before = server.messages.size();
        callers.get(LIMIT).release();
        assertThat(server.messages).as("given back, and not asked for").hasSize(before + 1);
        client.clock.advanceTimeBy(Duration.ofMillis(99));
        assertThat(server.messages).hasSize(before + 1);
        client.clock.advanceTimeBy(Duration.ofMillis(1));
        FakeCaller next = callers.get(LIMIT + 1);
        next.assertToldOnce();
        assertThat(server.messages).hasSize(before + 2);
        next.release();
        client.assertRest();
    }

    @Test
    void rest_isAnEighth_atMostAQuarterOfASecond_lessWhatHasPassed() {
        long second = Duration.ofSeconds(1).toNanos();
        assertThat(Rest.nanos(0, second, second)).isEqualTo(second / 8);
        assertThat(Rest.nanos(0, 100 * second, 100 * second)).isEqualTo(second / 4);
        assertThat(Rest.nanos(0, second, second + second / 16)).isEqualTo(second / 16);
    }
}
