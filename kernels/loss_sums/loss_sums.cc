#include "kernels/loss_sums/loss_sums.h"

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

void loss_sums(OpContext& ctx, const LossSumsArgs& args) {
  const ArgumentCheck check("loss_sums", ctx);
  check.tensor("loss", args.loss, DType::kF32, {kAnySize});
  check.tensor("targets", args.targets, DType::kI32, {args.loss.size(0)});
  check.tensor("source", args.source, DType::kI32, {kAnySize});
  const std::int64_t sequences = args.source.size(0);
  check.require(sequences > 0 && args.loss.size(0) % sequences == 0, "{} losses of {} sequences",
                args.loss.size(0), sequences);
  check.tensor("token_bytes", args.token_bytes, DType::kI32, {kAnySize});
  check.tensor("sums", args.sums, DType::kF64, {3, kAnySize});
  for (const ConstView& view : {ConstView(args.sums), args.loss, args.targets, args.source, args.token_bytes})
    check.require(view.is_contiguous(), "{} is not contiguous", view);
  op_table(ctx.stream.device()).loss_sums(ctx, args);
}

}  // namespace terroir
