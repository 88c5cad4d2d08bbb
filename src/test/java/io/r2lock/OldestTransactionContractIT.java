package io.r2lock;

class OldestTransactionContractIT extends LockContract {

    OldestTransactionContractIT() {
        super(TestServer.oldest());
    }
}
