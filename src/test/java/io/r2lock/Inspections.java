package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import java.util.Objects;

/** Reads what {@code inspect()} shows. */
final class Inspections {

    private Inspections() {}

    static List<LockInfo> look(AdvisoryLocks locks) {
        return Objects.requireNonNull(locks.inspect().collectList().block(PATIENCE));
    }

    static List<LockInfo> in(List<LockInfo> all, LockInfo.State state) {
        return all.stream().filter(lock -> lock.state() == state).toList();
    }

    static LockInfo only(List<LockInfo> all, LockKey key, LockInfo.State state) {
        List<LockInfo> found =
                in(all, state).stream().filter(lock -> lock.key().equals(key)).toList();
        assertThat(found).hasSize(1);
        return found.get(0);
    }
}
