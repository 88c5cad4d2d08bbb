package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayDeque;
import java.util.Deque;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** When silence is a loss; times are in whatever unit, as the patience is. */
class SightTest {

    private static final long PATIENCE = 1_000;
    private static final long EARLY = 10;

    /** What the event loop of the connection has still to do. */
    private final Deque<Runnable> tasks = new ArrayDeque<>();

    private final Scheduler loop = Schedulers.fromExecutor(tasks::add);

    private final Watched connection = new Watched() {
        @Override
        public LockConnection.Holder holder() {
            return HOLDER;
        }

        @Override
        public int pid() {
            return 1;
        }

        @Override
        public long backendStart() {
            return 1;
        }

        @Override
        public boolean isPooled() {
            return false;
        }

        @Override
        public Scheduler loop() {
            return loop;
        }
    };

    private static final LockConnection.Holder HOLDER = new LockConnection.Holder() {
        @Override
        public void lose(String why) {}
    };

    private final Sight sight = new Sight(connection, HOLDER, 0, 0);

    private boolean isSilent(long now, boolean stalled, boolean pooled) {
        return sight.isSilentFor(PATIENCE, EARLY, now, stalled, pooled);
    }

    private void loopRuns() {
        for (@Nullable Runnable task = tasks.poll(); task != null; task = tasks.poll()) {
            task.run();
        }
    }

    @Test
    void silenceThatNothingExplains_isALossInTime() {
        assertThat(isSilent(989, false, false)).isFalse();
        assertThat(isSilent(990, false, false)).isTrue();
        sight.confirm(500);
        assertThat(isSilent(1_489, false, false)).isFalse();
        assertThat(isSilent(1_490, false, false)).isTrue();
    }

    @Test
    void stallOfTheOneLoopOrTheOther_explainsNothing() {
        assertThat(isSilent(990, true, false)).as("its own loop runs").isTrue();
        sight.loop.look(1);
        assertThat(isSilent(990, false, false))
                .as("an answer could be read elsewhere")
                .isTrue();
    }

    @Test
    void stallOfBoth_isBelievedInForLong_andNotForEver() {
        sight.loop.look(1);
        assertThat(isSilent(9_989, true, false)).isFalse();
        assertThat(isSilent(9_990, true, false)).isTrue();
    }

    @Test
    void whenTheLoopRunsAgain_theServerHasTimeToBeHeard_andNoMoreThanThat() {
        sight.loop.look(1);
        assertThat(isSilent(5_000, true, false)).isFalse();
        loopRuns();
        assertThat(isSilent(5_001, true, false)).isFalse();
        assertThat(isSilent(5_250, false, false)).isFalse();
        assertThat(isSilent(5_251, false, false)).isTrue();
    }

    @Test
    void anAnswer_endsTheExplanation() {
        sight.loop.look(1);
        assertThat(isSilent(900, true, false)).isFalse();
        loopRuns();
        sight.confirm(100);
        assertThat(isSilent(1_089, false, false)).isFalse();
        assertThat(isSilent(1_090, false, false)).isTrue();
    }

    @Test
    void pooler_isWaitedForLonger() {
        assertThat(isSilent(5_000, false, true)).isFalse();
        assertThat(isSilent(9_990, false, true)).isTrue();
    }

    @Test
    void pause_isForgivenOnce() {
        sight.forgive(3_000);
        sight.forgive(3_000);
        assertThat(isSilent(3_989, false, false)).isFalse();
        assertThat(isSilent(3_990, false, false)).isTrue();
    }
}
