/** Reads what a status other than OK carries besides its code and message. grpc-js leaves it encoded in the metadata. */

import { BinaryReader } from "@bufbuild/protobuf/wire";
import type { ServiceError } from "@grpc/grpc-js";
import { Any } from "nice-grpc-error-details";

/** A message that ts-proto has generated. */
interface MessageType<Message> {
  $type: string;
  decode(bytes: Uint8Array): Message;
}

/** The detail of that type, such as ErrorInfo, if there is one that can be read. */
export function detail<Message>(error: ServiceError, type: MessageType<Message>): Message | undefined {
  try {
    const found = details(error).find(({ typeUrl }) => typeUrl === `type.googleapis.com/${type.$type}`);
    return found && type.decode(found.value);
  } catch {
    return undefined; // Made or changed by a proxy.
  }
}

/** Field 3 of google.rpc.Status, of which nice-grpc-error-details has all messages but that one. */
function details(error: ServiceError): Any[] {
  const found: Any[] = [];
  for (const encoded of error.metadata.get("grpc-status-details-bin")) {
    const reader = new BinaryReader(encoded as Buffer);
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === 3) found.push(Any.decode(reader.bytes()));
      else reader.skip(wireType);
    }
  }
  return found;
}
