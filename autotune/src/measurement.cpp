#include "brim/autotune/measurement.h"

#include <algorithm>
#include <cmath>

namespace brim::autotune {

AffineFit fit_affine(const std::vector<double>& batches, const std::vector<double>& values) {
  AffineFit fit;
  const auto n = static_cast<double>(batches.size());
  double mean_x = 0, mean_y = 0;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    mean_x += batches[i] / n;
    mean_y += values[i] / n;
  }
  double covariance = 0, variance = 0;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    covariance += (batches[i] - mean_x) * (values[i] - mean_y);
    variance += (batches[i] - mean_x) * (batches[i] - mean_x);
  }
  fit.slope = variance > 0 ? covariance / variance : (mean_x > 0 ? mean_y / mean_x : 0);
  fit.constant = mean_y - fit.slope * mean_x;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const double scale = std::max(std::abs(values[i]), 1e-12);
    fit.relative_error =
        std::max(fit.relative_error, std::abs(fit.at(batches[i]) - values[i]) / scale);
  }
  return fit;
}

}  // namespace brim::autotune
