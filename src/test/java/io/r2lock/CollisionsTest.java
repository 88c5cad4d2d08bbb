package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.slf4j.event.Level;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** Two names on one number. Numbers of 32 bits are soon found that do. */
class CollisionsTest {

    private static final List<LockKey> PAIR = collidingPair();
    private static final LockKey ONE = PAIR.get(0);
    private static final LockKey OTHER = PAIR.get(1);
    private static final Duration PATIENCE = Duration.ofSeconds(10);

    private final List<String> told = new ArrayList<>();
    private DefaultAdvisoryLocks locks = client();

    private DefaultAdvisoryLocks client() {
        LockListener listener = new LockListener() {
            @Override
            public void collision(LockKey held, LockKey asked) {
                told.add(held.name() + " and " + asked.name());
            }
        };
        return new DefaultAdvisoryLocks(
                FakeConnection.source(
                        generation -> Mono.fromSupplier(FakeConnection::granting),
                        () -> Mono.fromSupplier(() -> {
                            FakeSession session = new FakeSession();
                            session.answersAtOnce();
                            return session.wire();
                        })),
                FakeConnection.options(Schedulers.parallel(), Schedulers.parallel(), 2, 1, listener));
    }

    @AfterEach
    void close() {
        locks.close().block(PATIENCE);
    }

    /** Two names on one number. */
    static List<LockKey> collidingPair() {
        Map<LockKey, LockKey> seen = new HashMap<>();
        for (int i = 0; ; i++) {
            LockKey key = LockKey.hashtext("name " + i);
            LockKey before = seen.put(key, key);
            if (before != null) {
                return List.of(before, key);
            }
        }
    }

    private void hold(LockRequest outer, Runnable inside) {
        HeldLock hold = Objects.requireNonNull(outer.acquire().block(PATIENCE));
        inside.run();
        hold.release().block(PATIENCE);
    }

    private String both() {
        return ONE.name() + " and " + OTHER.name();
    }

    @Test
    void twoNamesOnOneNumber_areToldOnce_whicheverComesFirst() {
        assertThat(ONE).isEqualTo(OTHER);
        assertThat(ONE.name()).isNotEqualTo(OTHER.name());
        try (LogCount warnings = new LogCount(Level.WARN)) {
            hold(locks.exclusive(ONE), () -> {
                assertThat(told).isEmpty();
                locks.exclusive(OTHER).guard(Mono.just(1)).subscribe();
                locks.exclusive(OTHER).guard(Mono.just(1)).subscribe();
                locks.shared(OTHER)
                        .noWait()
                        .guard(Mono.just(1))
                        .onErrorComplete()
                        .subscribe();
            });
            hold(
                    locks.exclusive(OTHER),
                    () -> locks.exclusive(ONE).guard(Mono.just(1)).subscribe());
            assertThat(told).containsExactly(both());
            assertThat(warnings.messages())
                    .singleElement()
                    .asString()
                    .startsWith("Two different names are one lock: bigint " + ONE.value() + " and bigint ")
                    .doesNotContain("name ");
        }
        locks.close().block(PATIENCE);
        locks = client();
        hold(
                locks.exclusive(ONE),
                () -> locks.exclusive(OTHER).guard(Mono.just(1)).subscribe());
        assertThat(told).as("another client").containsExactly(both(), both());
    }

    @Test
    void theSameName_oneAfterTheOther_andABareNumber_areNoCollision() {
        hold(locks.exclusive(ONE), () -> {
            locks.exclusive(LockKey.hashtext(name(ONE))).guard(Mono.just(1)).subscribe();
            locks.exclusive(LockKey.of(ONE.value())).guard(Mono.just(1)).subscribe();
        });
        hold(locks.exclusive(OTHER), () -> {});
        hold(
                locks.exclusive(LockKey.of(ONE.value())),
                () -> locks.exclusive(ONE).guard(Mono.just(1)).subscribe());
        assertThat(told).isEmpty();
    }

    private static String name(LockKey key) {
        String name = Objects.requireNonNull(key.name());
        return name.substring(name.indexOf('\'') + 1, name.length() - 1);
    }

    @Test
    void severalNamesInOneRequest_areTold() {
        locks.exclusive(LockKey.of(1), ONE, LockKey.of(2), OTHER);
        assertThat(told).containsExactly(both());
    }

    @Test
    void severalNamesInOneCollection_areTold() {
        locks.shared(List.of(ONE, LockKey.of(1), OTHER, ONE));
        assertThat(told).containsExactly(both());
    }

    @Test
    void anotherNameInsideAHold_isTold_asItJoins() {
        locks.exclusive(ONE).guard(locks.exclusive(OTHER).guard(Mono.just(1))).block(PATIENCE);
        assertThat(told).containsExactly(both());
    }

    @Test
    void sessionScope_tellsToo() {
        HeldLock hold = Objects.requireNonNull(
                locks.exclusive(ONE).inSession().acquire().block(PATIENCE));
        Disposable second =
                locks.exclusive(OTHER).inSession().guard(Mono.just(1)).subscribe();
        assertThat(told).containsExactly(both());
        second.dispose();
        hold.release().block(PATIENCE);
    }

    @Test
    void permits_tellToo() {
        HeldLock hold = Objects.requireNonNull(locks.permit(ONE, 1).acquire().block(PATIENCE));
        Disposable second = locks.permit(OTHER, 1).guard(Mono.just(1)).subscribe();
        assertThat(told).containsExactly(both());
        second.dispose();
        hold.release().block(PATIENCE);
    }

    @Test
    void pairsAreRememberedUpToALimit() {
        List<LockKey> asked = new ArrayList<>();
        Collisions collisions = new Collisions((held, other) -> asked.add(other));
        LockKey held = LockKey.named("n", "held");
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < Collisions.MOST + 10; i++) {
                collisions.met(held, LockKey.named("n", "asked " + i));
            }
        }
        assertThat(asked).hasSize(Collisions.MOST).doesNotHaveDuplicates();
    }
}
