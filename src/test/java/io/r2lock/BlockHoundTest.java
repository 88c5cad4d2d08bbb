package io.r2lock;

import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.blockhound.BlockingOperationError;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

class BlockHoundTest {

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    @Test
    void blockingCall_onANonBlockingThread_fails() {
        residue.allowLog(Level.ERROR, TestBlockHoundIntegration.class.getName());
        Mono<Object> blocking =
                Mono.fromRunnable(() -> LockSupport.parkNanos(1)).subscribeOn(Schedulers.parallel());
        assertThatThrownBy(blocking::block).hasRootCauseInstanceOf(BlockingOperationError.class);
    }

    @Test
    void blockingCall_onABlockingThread_passes() {
        Mono<Object> blocking =
                Mono.fromRunnable(() -> LockSupport.parkNanos(1)).subscribeOn(Schedulers.boundedElastic());
        assertThatCode(blocking::block).doesNotThrowAnyException();
    }
}
