package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

class SmokeIT {
    @Test
    void works() {
        TestServer server = TestServer.newest();
        AdvisoryLocks locks = AdvisoryLocks.create(server.connectionFactory());
        LockKey key = LockKey.named("order", "42");
        assertThat(locks.withAdvisoryLock(key, Mono.just(1)).block(Duration.ofSeconds(10)))
                .isEqualTo(1);
        Long n = Flux.range(0, 2000)
                .flatMap(i -> locks.withAdvisoryLock(LockKey.of(i % 7), Mono.just(i)), 500)
                .count()
                .block(Duration.ofSeconds(30));
        assertThat(n).isEqualTo(2000);
        Integer pid = locks.exclusive(key)
                .guard(hold -> Mono.from(hold.connection()
                                .createStatement("select pg_backend_pid()")
                                .execute())
                        .flatMap(r -> Mono.from(r.map((row, m) -> row.get(0, Integer.class))))
                        .flatMap(
                                p -> locks.withAdvisoryLock(key, locks.withAdvisoryLock(LockKey.of(77), Mono.just(p)))))
                .block(Duration.ofSeconds(10));
        assertThat(pid).isPositive();
        locks.close().block(Duration.ofSeconds(20));
    }
}
