package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.slf4j.event.Level;
import reactor.test.scheduler.VirtualTimeScheduler;

class WarningsTest {

    @Test
    void oneLineInFiveSeconds_andTheNextSaysHowManyWereHeldBack() {
        VirtualTimeScheduler clock = VirtualTimeScheduler.create();
        Warnings warnings = new Warnings(clock);
        try (LogCount lines = new LogCount(Level.WARN)) {
            warnings.warn("first");
            for (int i = 0; i < 10; i++) {
                warnings.warn("more");
            }
            clock.advanceTimeBy(Duration.ofSeconds(Warnings.QUIET_SECONDS).minusMillis(1));
            warnings.warn("still too soon");
            assertThat(lines.messages()).containsExactly("first");
            clock.advanceTimeBy(Duration.ofMillis(1));
            warnings.warn("second");
            assertThat(lines.messages())
                    .containsExactly("first", "second (11 more warnings since the last one are at DEBUG)");
            clock.advanceTimeBy(Duration.ofSeconds(Warnings.QUIET_SECONDS));
            warnings.warn("third");
            assertThat(lines.messages()).hasSize(3).endsWith("third");
        } finally {
            clock.dispose();
        }
    }
}
